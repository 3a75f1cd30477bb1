"""The partition that the firmware reads, written to for as long as it takes."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["BOOT", "run", "writable"]

BOOT = Path("/boot/firmware")
"""Where it is mounted, so that it cannot be written to."""


@contextmanager
def writable(partition: Path) -> Iterator[None]:
    """Let it be written to; raises `OSError` where it cannot."""
    run("mount", "-o", "remount,rw", str(partition))
    try:
        yield
    finally:
        run("mount", "-o", "remount,ro", str(partition))


def run(*command: str, given: str = "") -> str:
    """What a program says; raises `OSError` where it fails."""
    ended = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
    if ended.returncode != 0:
        raise OSError(f"{command[0]}: {ended.stderr.strip() or ended.returncode}")
    return ended.stdout
