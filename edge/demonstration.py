"""Commands one after the other, as a person would give them: the `make …-demo`s.

What is there already is not made again, so whatever ended a demonstration, the next one goes on.
"""

from __future__ import annotations

import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from edge.messages import text
from edge.paths import cache_dir

__all__ = ["Step", "demonstrate", "end"]


@dataclass(frozen=True, slots=True)
class Step:
    """A command of `lucie`."""

    command: str
    """Its words, in which the folder of the demonstration is `.`."""
    made: str | None = None
    """What it makes, and is not given again for; None: it is given in any case."""


def demonstrate(name: str, steps: Sequence[Step]) -> int:
    """Give the commands whose work is missing; returns the exit code of one that failed, or 0.

    Args:
        name: of the folder in the user's cache in which they work.
        steps: the commands.
    """
    folder = cache_dir() / name
    folder.mkdir(parents=True, exist_ok=True)
    click.echo(text("demonstration.folder", path=folder), err=True)
    for step in steps:
        if step.made is None or not (folder / step.made).exists():
            status = _run(step.command, folder)
            if status:
                return status
    return 0


def end(main: Callable[[], int]) -> None:
    """End this program as a demonstration ends."""
    try:
        sys.exit(main())
    except KeyboardInterrupt:  # which the command has told about
        sys.exit(130)


def _run(command: str, folder: Path) -> int:
    click.secho(f"lucie {command}", bold=True, err=True)
    program = [sys.executable, "-c", "from edge.program import main; raise SystemExit(main())"]
    process = subprocess.Popen([*program, *shlex.split(command)], cwd=folder)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # the command answers it, and ends
    try:
        return process.wait()
    finally:
        signal.signal(signal.SIGINT, before)
