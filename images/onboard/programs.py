"""Programs of the system that root's ones have do their work."""

from __future__ import annotations

import subprocess

__all__ = ["output", "run"]

_POINTER = "dmesg(1) "
"""How mount(8) ends what it says: with where to look, which nobody before a board can."""


def output(*command: str, given: str = "") -> str:
    """What a program says, without the line end.

    Args:
        given: what it reads.

    Raises:
        OSError: it failed; `strerror` is the last line of what it said of that.
    """
    ended = run(*command, given=given)
    if ended.returncode != 0:
        lines = (line.strip() for line in ended.stderr.splitlines())
        said = [line for line in lines if line and not line.startswith(_POINTER)]
        raise OSError(0, said[-1] if said else f"{command[0]}: {ended.returncode}")
    return ended.stdout.strip()


def run(
    *command: str, given: str = "", seconds: float | None = None
) -> subprocess.CompletedProcess[str]:
    """A program that has ended, well or not.

    Args:
        given: what it reads.
        seconds: after which it is ended.

    Raises:
        OSError: it cannot be started.
        subprocess.TimeoutExpired: it took longer.
    """
    return subprocess.run(command, input=given, capture_output=True, text=True, check=False,
                          timeout=seconds)  # fmt: skip
