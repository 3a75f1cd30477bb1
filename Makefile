# make chat                 set up once, then chat
# make chat PROMPT="…"      answer once and exit
# make test                 set up, check style and types, run the tests
# make bench                the figures of tests/benchmarks
# make quantize-demo        the default model through every export, measured and drawn
# make shrink-demo          a smaller model made of it, from open text to an answer
# make clean                remove the environment (what was built stays in the user's cache)

PYTHON ?= python3
BIN := .venv/bin
# The prompt goes by the environment, where no shell reads its characters; $(value) keeps
# make from reading them. A PROMPT that was in the environment before is somebody else's.
unexport PROMPT
ifeq ($(origin PROMPT),command line)
export LUCIE_PROMPT := $(value PROMPT)
endif

.PHONY: chat test bench quantize-demo shrink-demo clean python

chat: python
	@exec $(PYTHON) -m edge.bootstrap chat

test: python
	@$(PYTHON) -m edge.bootstrap test
	$(BIN)/python -m tests.llama_simple
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/pytest $(PYTEST)

bench: python
	@$(PYTHON) -m edge.bootstrap bench
	$(BIN)/python -m tests.benchmarks $(BENCH)

quantize-demo: python
	@$(PYTHON) -m edge.bootstrap test
	$(BIN)/python -m quantize.demo

shrink-demo: python
	@$(PYTHON) -m edge.bootstrap test
	$(BIN)/python -m distill.demo $(if $(COMPARED),--compared)

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache

python:
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Lucie needs Python 3.11 or newer; this is {0}. Choose another: make PYTHON=python3.11\nLucie demande Python 3.11 ou plus ; celui-ci est {0}. Choisissez-en un autre : make PYTHON=python3.11".format("%d.%d" % sys.version_info[:2]))'
