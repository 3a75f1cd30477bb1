"""Loads GGUF files natively, each in a process of its own, and tells how that process ended.

    python -m tests.edge.native_probe FILE...

prints for each file `<status> <name>`: 0 it ran, 1 the engine refused it in words, 2 it raised
something else, -N signal N ended it. The process that forks has loaded the libraries but no
model, so that a file costs its own loading alone.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
import traceback
from pathlib import Path

from edge.engine import Chunk, LoadOptions, Sampling, Tokenizer
from edge.errors import EngineError, LucieError
from edge.llamacpp.engine import LlamaEngine
from edge.llamacpp.native import api

_TEXTS = (
    "Hello, world! 12345\n\n\ttabs  and   spaces",
    "Où est l’été ? 😀 漢字 \u0000\u0001\ufffd <|im_start|><s></s>",
    "a" * 3000 + " " * 300 + "1" * 300 + "é" * 300,
)
_MEMORY = 3 << 30
_SECONDS = 60


def run(path: Path) -> None:
    """Everything that the product does with a model, in little."""
    engine = load(path, "f16", repack=False)
    read(engine.tokenizer)
    compute(engine)
    try:
        engine = load(path, "q8_0", repack=True)
    except LucieError as error:
        if error.code == "engine.no-context":  # heads that q8_0 does not divide
            return
        raise
    compute(engine)


def load(path: Path, kv_type: str, repack: bool) -> LlamaEngine:
    small = LoadOptions(
        n_ctx=256,
        n_seq=2,
        n_batch=32,
        threads=1,
        threads_batch=1,
        kv_type=kv_type,
        repack=repack,
    )
    return LlamaEngine(path, small)


def read(tokenizer: Tokenizer) -> None:
    for text in _TEXTS:
        for special in (False, True):
            ids = tokenizer.encode(text, special=special, bos=True)
            for token in ids[:100]:
                tokenizer.piece(token)
    last = tokenizer.n_vocab - 1
    _ = tokenizer.eog, tokenizer.special_texts, tokenizer.piece(last), tokenizer.template


def compute(engine: LlamaEngine) -> None:
    last = engine.tokenizer.n_vocab - 1
    a, b = engine.open(), engine.open()
    rows = engine.step([Chunk(a, [0, 1, 2, last], True), Chunk(b, [last, 3], True)])
    sampler = engine.sampler(Sampling(seed=1, top_logprobs=3), [0, 1])
    try:
        chosen = sampler.sample(rows[0]).id
    except EngineError as error:  # weights of zero: what they amount to is no question here
        if error.code != "engine.not-a-number":
            raise
        chosen = 0
    engine.step([Chunk(a, [chosen], True)])
    sampler.close()
    engine.close()


def probe(path: Path) -> int:
    """How a process that runs `path` ends: an exit status, or minus a signal."""
    pid = os.fork()
    if pid == 0:
        signal.alarm(_SECONDS)
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        try:
            run(path)
        except LucieError as error:
            sys.stderr.write(f"{path.name}: {error.code} {error.facts}\n")
            os._exit(1)
        except BaseException:  # noqa: BLE001 - a forked child must never return into the loop
            traceback.print_exc()
            os._exit(2)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


if __name__ == "__main__":
    os.environ["GGML_NO_BACKTRACE"] = "1"  # ggml_abort would start a debugger
    api()
    for argument in sys.argv[1:]:
        sys.stdout.write(f"{probe(Path(argument))} {argument}\n")
        sys.stdout.flush()
