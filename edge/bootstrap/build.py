"""Run a long build: its output to a log, its progress to the screen, its failure explained."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from edge.bootstrap.moving import Moving, show
from edge.errors import LucieError
from edge.messages import text

__all__ = ["BuildError", "cause", "run", "say"]

_STEP = re.compile(r"\[(\d+)/(\d+)\]")  # ninja's "[n/total]"

# What a failed build says, and the entry of locale/bootstrap.toml that helps. First match wins.
_CAUSES = (
    (r"Killed signal|Killed: 9|virtual memory exhausted|annot allocate memory", "memory"),
    (r"No space left on device|Disk quota exceeded", "disk"),
    (r"No CMAKE_C(XX)?_COMPILER could be found|compiler identification is unknown", "compiler"),
    (r"Python\.h: No such file", "headers"),
    (
        r"name resolution|Network is unreachable|NewConnectionError|Connection refused"
        r"|No matching distribution|Read timed out|ConnectTimeout|NameResolutionError"
        r"|failure resolving|(Could not|Unable to) (connect|resolve)",  # apt
        "network",
    ),
)
_ENGLISH = {"LC_ALL": "C.UTF-8", "LANGUAGE": "C"}
"""Compilers and apt say these things in the language of their environment."""
_SHOWN = 12
"""Lines of a failed build that are worth a reader's time."""


class BuildError(LucieError):
    """A program that sets up ended with an error; `cause` is a word of `cause()`."""


def say(code: str, **facts: Any) -> None:
    """Tell a person on stderr what is being done: entry `code` of locale/bootstrap.toml."""
    show(text(f"bootstrap.{code}", **facts))


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
            env={**os.environ, **_ENGLISH, **(env or {})},
            process_group=0,
        ) as child,
    ):
        try:
            assert child.stdout is not None  # noqa: S101 - asked for by PIPE
            record.write(f"$ {' '.join(command)}\n")
            with Moving(title or "") as progress:
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
    if code != 0:
        why = cause(tail)
        for line in _telling(tail):
            show(f"    {line}")
        raise BuildError(f"bootstrap.failed-{why}", log=str(log), cause=why)


def _stop(child: subprocess.Popen[str]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGTERM)  # ninja removes half-written files
    child.wait()


def _telling(lines: Sequence[str]) -> list[str]:
    """The lines about errors, or else the last ones; long compiler commands are cut."""
    errors = [line for line in lines if re.search(r"\berror\b|FAILED|Killed", line, re.IGNORECASE)]
    return [line[:160] for line in (errors or list(lines))[-_SHOWN:]]
