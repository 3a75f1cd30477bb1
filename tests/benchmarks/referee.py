"""llama.cpp's own programs, built from the very sources that our wheel was built from.

    <cache>/referee/<key>/bin/llama-bench, llama-server, llama-quantize, …    with our flags
    <cache>/referee/<key>/convert/convert_hf_to_gguf.py    the converter and what it imports
    <cache>/referee/<key>/openmp/libggml-cpu.so.0          as llama-cpp-python builds it

The default build differs in one library, so only that one is compiled again; a program
finds it first by LD_LIBRARY_PATH. `llama-server` also is the judge of greedy tokens:
`POST /completion` with `return_tokens` and `n_probs` tells ids and the best logits.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path

from edge.bootstrap import llamacpp
from edge.bootstrap.build import run

__all__ = ["Referee", "build"]

_ALONE = (
    "-DCMAKE_BUILD_TYPE=Release",
    "-DCMAKE_BUILD_RPATH_USE_ORIGIN=ON",  # the programs are moved once built
    "-DLLAMA_BUILD_TESTS=OFF",
    "-DLLAMA_BUILD_EXAMPLES=OFF",
    "-DLLAMA_BUILD_APP=OFF",
    "-DLLAMA_USE_PREBUILT_UI=OFF",
    "-DLLAMA_OPENSSL=OFF",
)
_PROGRAMS = ("llama-bench", "llama-server", "llama-quantize", "llama-imatrix", "llama-perplexity")


@dataclass(frozen=True, slots=True)
class Referee:
    """The programs, and the environment in which they are one build or the other."""

    bench: Path
    server: Path
    quantize: Path
    imatrix: Path
    perplexity: Path
    convert: Path
    """A program in Python, which wants torch and transformers."""
    openmp: dict[str, str] = field(hash=False)
    """Environment for llama-cpp-python's default build; ours needs none."""


def build() -> Referee:
    """The programs for this machine, built if there are none: some ten minutes of CPU time.

    Raises:
        BuildError: the build failed.
    """
    root = llamacpp.cache_dir() / "referee"
    with llamacpp.locked(root):
        made_by = hashlib.sha256(repr((_PROGRAMS, _ALONE, llamacpp.NO_AMX)).encode()).hexdigest()
        finished = root / f"{llamacpp.key()}-{made_by[:8]}"
        if not finished.exists():
            _build(llamacpp.cache_dir() / "build" / f"referee-{llamacpp.key()}", finished)
    library_path = os.pathsep.join(
        [str(finished / "openmp"), os.environ.get("LD_LIBRARY_PATH", "")]
    )
    bench, server, quantize, imatrix, perplexity = (finished / "bin" / each for each in _PROGRAMS)
    return Referee(
        bench=bench,
        server=server,
        quantize=quantize,
        imatrix=imatrix,
        perplexity=perplexity,
        convert=finished / "convert" / "convert_hf_to_gguf.py",
        openmp={"LD_LIBRARY_PATH": library_path.rstrip(os.pathsep)},
    )


def _build(folder: Path, finished: Path) -> None:
    log = folder.with_suffix(".log")
    source = llamacpp.sdist(folder, log) / "vendor" / "llama.cpp"
    llamacpp.python(folder, log)
    ours, theirs = folder / "ours", folder / "openmp"
    _compile(source, ours, log, (*_ALONE, "-DGGML_OPENMP=OFF"), _PROGRAMS)
    _compile(source, theirs, log, (*_ALONE, "-DLLAMA_BUILD_TOOLS=OFF"), ("ggml-cpu",))
    draft = folder / "finished"
    shutil.rmtree(draft, ignore_errors=True)
    shutil.copytree(ours / "bin", draft / "bin", symlinks=True)
    (draft / "openmp").mkdir()
    for library in (theirs / "bin").glob("libggml-cpu.so*"):
        shutil.copy(library, draft / "openmp", follow_symlinks=False)
    (draft / "convert").mkdir()
    for name in ("convert_hf_to_gguf.py", "conversion", "gguf-py"):
        place = source / name
        if place.is_dir():
            shutil.copytree(place, draft / "convert" / name)
        elif place.exists():
            shutil.copy(place, draft / "convert")
    draft.rename(finished)
    shutil.rmtree(folder)


def _compile(
    source: Path, folder: Path, log: Path, flags: tuple[str, ...], targets: tuple[str, ...]
) -> None:
    env = {"PATH": f"{folder.parent / 'env/bin'}:{os.environ['PATH']}"}
    more = folder.parent / "more.cmake"
    more.write_text(llamacpp.NO_AMX, encoding="utf-8")
    flags = (*flags, f"-DCMAKE_PROJECT_INCLUDE={more}")
    configure = ["cmake", "-G", "Ninja", "-S", str(source), "-B", str(folder), *flags]
    run(configure, log=log, env=env)
    jobs = ["-j", str(llamacpp.jobs())]
    run(["ninja", "-C", str(folder), *jobs, *targets], log=log, title="referee", env=env)


if __name__ == "__main__":
    sys.stdout.write(f"{build()}\n")
