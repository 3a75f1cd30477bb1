"""Run a long build: its output to a log, its progress to the screen, its failure explained."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any

from edge.errors import LucieError
from edge.messages import text

__all__ = ["BuildError", "cause", "run", "say", "show"]

_STEP = re.compile(r"\[(\d+)/(\d+)\]")  # ninja's "[n/total]"
_PLAIN_SECONDS = 30.0
"""Without a terminal: one line of progress so often."""
_LIVE_SECONDS = 1.0
"""On a terminal: how often it moves."""

# What a failed build says, and the entry of locale/bootstrap.toml that helps. First match wins.
_CAUSES = (
    (r"Killed signal|Killed: 9|virtual memory exhausted|annot allocate memory", "memory"),
    (r"No space left on device|Disk quota exceeded", "disk"),
    (r"No CMAKE_C(XX)?_COMPILER could be found|compiler identification is unknown", "compiler"),
    (r"Python\.h: No such file", "headers"),
    (
        r"name resolution|Network is unreachable|NewConnectionError|Connection refused"
        r"|No matching distribution|Read timed out|ConnectTimeout|NameResolutionError",
        "network",
    ),
)
_SHOWN = 12
"""Lines of a failed build that are worth a reader's time."""


class BuildError(LucieError):
    """A program that sets up ended with an error; `cause` is a word of `cause()`."""


def say(code: str, **facts: Any) -> None:
    """Tell a person on stderr what is being done: entry `code` of locale/bootstrap.toml."""
    show(text(f"bootstrap.{code}", **facts))


def show(line: str) -> None:
    """Write a line to stderr."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def cause(lines: Iterable[str]) -> str:
    """Why a build failed, as a word: memory, disk, compiler, headers, network or unknown."""
    said = "\n".join(lines)
    return next((word for pattern, word in _CAUSES if re.search(pattern, said)), "unknown")


def run(
    command: Sequence[str],
    *,
    log: Path,
    title: str | None = None,
    env: Mapping[str, str] | None = None,
    heard: Callable[[str], object] | None = None,
) -> None:
    """Run `command` to its end; if this process is stopped, so is all that it started.

    Args:
        command: program and arguments.
        log: where its output is appended.
        title: what is being done, shown with how far it is; None: nothing new.
        env: added to the environment.
        heard: called with each line that it says.

    Raises:
        BuildError: it ended with an error, whose last lines have been shown.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    tail: deque[str] = deque(maxlen=400)
    # A process group of its own, so that an interrupt ends compilers too, not only pip.
    with (
        log.open("a", encoding="utf-8", buffering=1) as record,
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            env={**os.environ, **(env or {})},
            process_group=0,
        ) as child,
    ):
        progress = _Progress(title or "")
        try:
            assert child.stdout is not None  # noqa: S101 - asked for by PIPE
            record.write(f"$ {' '.join(command)}\n")
            for line in child.stdout:
                record.write(line)
                tail.append(line.rstrip())
                if heard is not None:
                    heard(tail[-1])
                if step := _STEP.search(line):
                    progress.show(int(step[1]), int(step[2]))
            code = child.wait()
        except BaseException:
            _stop(child)
            raise
        finally:
            progress.end()
    if code != 0:
        why = cause(tail)
        sys.stderr.write("".join(f"    {line}\n" for line in _telling(tail)))
        raise BuildError(f"bootstrap.failed-{why}", log=str(log), cause=why)


def _stop(child: subprocess.Popen[str]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGTERM)  # ninja removes half-written files
    child.wait()


def _telling(lines: Sequence[str]) -> list[str]:
    """The lines about errors, or else the last ones; long compiler commands are cut."""
    errors = [line for line in lines if re.search(r"\berror\b|FAILED|Killed", line, re.IGNORECASE)]
    return [line[:160] for line in (errors or list(lines))[-_SHOWN:]]


class _Progress:
    """`title  42 %  1:23` on one line of a terminal, moving; elsewhere a line now and then."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._live = sys.stderr.isatty()
        self._began = time.monotonic()
        self._told = -_PLAIN_SECONDS
        self._share = ""
        self._writing = Lock()
        self._over = Event()
        self._write("")
        if title:
            Thread(target=self._tick, daemon=True).start()

    def show(self, done: int, total: int) -> None:
        self._share = f"  {100 * done // total:3d} %"
        self._move()

    def end(self) -> None:
        with self._writing:
            self._over.set()
            if self._live and self._title:
                sys.stderr.write("\n")

    def _tick(self) -> None:
        """What does not say how far it is moves, too."""
        while not self._over.wait(_LIVE_SECONDS if self._live else _PLAIN_SECONDS):
            self._move()

    def _move(self) -> None:
        passed = time.monotonic() - self._began
        if self._live or passed >= self._told + _PLAIN_SECONDS:
            self._told = passed
            minutes, seconds = divmod(int(passed), 60)
            self._write(f"{self._share}  {minutes}:{seconds:02d}")

    def _write(self, more: str) -> None:
        with self._writing:
            if self._title and not self._over.is_set():
                line = f"{self._title}{more}"
                sys.stderr.write(f"\r\x1b[K{line}" if self._live else f"{line}\n")
                sys.stderr.flush()
