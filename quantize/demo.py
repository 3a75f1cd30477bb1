"""`make quantize-demo`: the default model through every export, measured and drawn.

Each step is a command that anybody can give; what is there already is not made again.

That model comes as a Q4_1 file, so its weights stand on that type's grid: Q4_1 and Q5_1 would
give them back exactly, at no cost, and are left out of the search.
"""

from __future__ import annotations

import shlex
import signal
import subprocess
import sys
from pathlib import Path

import click

from edge.paths import cache_dir

__all__: list[str] = []

_TYPES = ("q4_0", "q4_k_m", "q5_k_m", "q6_k", "q8_0")
_MATRIX = "smollm2.imatrix.gguf"
_PICTURE = "comparison.svg"
_STEPS = (
    ("smollm2", "dequantize smollm2-135m-instruct smollm2"),
    ("f16", "gguf smollm2 f16 --type F16"),
    (_MATRIX, f"imatrix ./f16 -o {_MATRIX}"),
    *((kind, f"gguf smollm2 {kind} --type {kind.upper()} --imatrix {_MATRIX}") for kind in _TYPES),
    (
        "searched",
        f"search smollm2 searched --like Q4_K_M --imatrix {_MATRIX} "
        "--types q3_k,q4_0,q4_k,iq4_nl,iq4_xs,q5_0,q5_k,q6_k,q8_0",
    ),
    ("healed", "heal smollm2 healed --type Q4_0"),
    ("onnx-q8", "onnx smollm2 onnx-q8 --bits 8"),
    ("onnx-q4", f"onnx smollm2 onnx-q4 --bits 4 --imatrix {_MATRIX}"),
)
_MADE = (*_TYPES, "searched", "healed", "onnx-q8", "onnx-q4")
_COMPARE = "compare ./f16 " + " ".join(f"./{name}" for name in _MADE)


def main() -> int:
    """Run the steps that are missing, then compare."""
    folder = cache_dir() / "quantize-demo"
    folder.mkdir(parents=True, exist_ok=True)
    for made, command in _STEPS:
        if not (folder / made).exists():
            status = _run(command, folder)
            if status:
                return status
    return _run(f"{_COMPARE} --chunks 24 --picture {_PICTURE}", folder)


def _run(command: str, folder: Path) -> int:
    click.secho(f"lucie quantize {command}", bold=True, err=True)
    program = [sys.executable, "-c", "from edge.program import main; raise SystemExit(main())"]
    process = subprocess.Popen([*program, "quantize", *shlex.split(command)], cwd=folder)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # the command answers it, and ends
    try:
        return process.wait()
    finally:
        signal.signal(signal.SIGINT, before)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:  # which the command has told about
        sys.exit(130)
