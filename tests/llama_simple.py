"""llama.cpp's own `llama-simple`, the judge of greedy tokens, over the very libraries we run.

`make test` builds it (`python -m tests.llama_simple`): one file of the source that our wheel
was built from, linked to the wheel's libraries. It is kept in the user's cache.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

from edge.bootstrap import llamacpp

# The program takes llama.cpp's default of four threads, which on fewer cores wait for one
# another most of the time: it gets one, and is otherwise as it stands in the source.
_ONE_THREAD = """#include "llama.h"
static llama_context_params one_thread() {
    auto params = llama_context_default_params();
    params.n_threads = params.n_threads_batch = 1;
    return params;
}
#define llama_context_default_params one_thread
"""
_LIBRARIES = ("llama", "ggml", "ggml-base", "ggml-cpu")


# Looked up before any test moves LUCIE_HOME away from the user's own folders.
PROGRAM = llamacpp.cache_dir() / "referee" / f"simple-{llamacpp.key()}" / "llama-simple"


def libraries() -> Path:
    """The folder of the installed wheel's libraries."""
    spec = importlib.util.find_spec("llama_cpp")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    return Path(spec.submodule_search_locations[0]) / "lib"


def build() -> Path:
    """Build the program, if it is not there: some seconds, and the source's download."""
    target = PROGRAM
    with llamacpp.locked(target.parents[1]):
        if target.exists():
            return target
        work = llamacpp.cache_dir() / "build" / target.parent.name
        log = work.with_suffix(".log")
        source = llamacpp.sdist(work, log) / "vendor" / "llama.cpp"
        (work / "one-thread.h").write_text(_ONE_THREAD, encoding="utf-8")
        llamacpp.run(_compiler(source, work / "llama-simple"), log=log, title="referee")
        target.parent.mkdir(parents=True, exist_ok=True)
        (work / "llama-simple").replace(target)
        shutil.rmtree(work)
    return target


def _compiler(source: Path, output: Path) -> list[str]:
    lib = libraries()
    return [
        *("c++", "-O1", "-std=c++17", str(source / "examples" / "simple" / "simple.cpp")),
        *(f"-I{source / folder}" for folder in ("include", "ggml/include")),
        *("-include", str(output.parent / "one-thread.h")),
        *(f"-L{lib}", f"-Wl,-rpath-link,{lib}", *(f"-l{name}" for name in _LIBRARIES)),
        *("-o", str(output)),
    ]


def greedy(model: Path, prompt: str, n: int) -> str:
    """The prompt and the `n` likeliest tokens after it, control tokens spelled out."""
    command = [str(PROGRAM), "-m", str(model), "-n", str(n), prompt]
    env = {**os.environ, "LD_LIBRARY_PATH": str(libraries())}
    done = subprocess.run(command, env=env, capture_output=True, check=True, timeout=300)
    # The program ends what it prints with a line feed of its own.
    return done.stdout.decode().removesuffix("\n")


if __name__ == "__main__":
    sys.stderr.write(f"{build()}\n")
