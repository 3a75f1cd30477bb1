"""Whether llama.cpp is installed, loads, and was built for this processor.

It is loaded in a process of its own: a build for another processor dies of an illegal
instruction, and should not take `lucie doctor` along.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from edge.device import Cpu, Remark

__all__ = ["Build", "check_build"]

_PROGRAM = """
import sys
from edge.errors import LucieError
from edge.llamacpp.native import build
try:
    print(build())
except LucieError as error:
    sys.exit(str(error))
"""
_TIMEOUT_S = 60
_FEATURES = {
    "avx2": "AVX2",
    "fma": "FMA",
    "f16c": "F16C",
    "avx512f": "AVX512",
    "asimd": "NEON",
    "asimddp": "DOTPROD",
    "asimdhp": "FP16_VA",
    "i8mm": "MATMUL_INT8",
    "sve": "SVE",
}
"""Processor features by Linux's names, and what a build that uses them calls them
(`llama_print_system_info`)."""


@dataclass(frozen=True, slots=True)
class Build:
    """The engine that is installed."""

    version: str
    """`llama.cpp` and its version; "" where it cannot be loaded."""
    features: tuple[str, ...]
    """What of the processor it uses, by llama.cpp's names."""
    remark: Remark
    """How it suits this processor, or why it cannot be loaded."""

    @property
    def usable(self) -> bool:
        """Whether it can be loaded."""
        return bool(self.version)


def check_build(cpu: Cpu) -> Build:
    """Load llama.cpp in another process and compare what it uses with what `cpu` has."""
    code, output, errors = _ask()
    if code == -signal.SIGILL:
        return Build("", (), Remark("doctor.build-illegal", {}))
    if code != 0:
        reason = errors.strip().splitlines() or [f"{code}"]
        return Build("", (), Remark("doctor.build-broken", {"reason": reason[-1][:200]}))
    name, version, *features = output.split()
    return Build(f"{name} {version}", tuple(features), _compare(cpu, set(features)))


def _ask() -> tuple[int, str, str]:
    # The other process must find the same `edge` as this one, however it was started.
    home = str(Path(__file__).parent.parent)
    paths = os.pathsep.join(filter(None, [home, os.environ.get("PYTHONPATH")]))
    try:
        asked = subprocess.run(
            [sys.executable, "-P", "-c", _PROGRAM],
            env=os.environ | {"PYTHONPATH": paths},
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        return 1, "", str(error)
    return asked.returncode, asked.stdout, asked.stderr


def _compare(cpu: Cpu, used: set[str]) -> Remark:
    foreign = [name for flag, name in _FEATURES.items() if name in used and flag not in cpu.flags]
    unused = [name for flag, name in _FEATURES.items() if flag in cpu.flags and name not in used]
    if foreign:
        return Remark("doctor.build-foreign", {"features": ", ".join(foreign)})
    if unused:
        return Remark("doctor.build-slow", {"features": ", ".join(unused)})
    return Remark("doctor.build-right", {})
