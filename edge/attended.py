"""A long piece of work in a program of its own, and the one who waits for it.

    stdin    ends when the one who waits gives up, or is gone: then the work saves, and ends
    stdout   what happens, a JSON array a line; a launcher's own words are passed over
    stderr   what libraries say, into a log

So Ctrl-C, SIGTERM and even kill -9 of the one who waits leave saved work, what native code takes
or breaks is gone with its process, and launchers such as torchrun can start the program. Work that
does not see in time that the one who waits is gone, is ended then: nothing computes for nobody.

Where a person or a cluster has started the program itself, nobody waits: it ends when it gets
SIGINT or SIGTERM, says what is wrong on stderr, and does not look at stdin.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Event
from typing import IO, Any

from edge import streams
from edge.errors import LucieError
from edge.messages import text
from edge.orphan import end_after, end_with_parent
from edge.text import one_line

__all__ = [
    "STOPPED", "DiedError", "Tell", "attend", "attended", "how_ended", "left_alone", "signal_name",
]  # fmt: skip

STOPPED = 3
"""The exit code of work that was stopped, and can be taken up."""
_ERROR = "error"
_AWAITED = "LUCIE_AWAITED"
"""Set for programs that somebody waits for, to the number of that process."""
_asked = Event()
"""A program that nobody waits for is to end."""
_ending = Event()
"""The work has been told that nobody waits any more, and is saving."""
_GRACE_S = 10.0
_ALONE_S = 30.0
"""Time at least for the work to see that the one who waits is gone."""
_looked: list[float] = []
"""When the work has looked last, and the longest that it has not, in seconds."""
_LAUNCHED = "TORCHELASTIC_RUN_ID"
"""Set by torchrun, and by what is built on it, for each process that it starts."""
Tell = Callable[..., None]
"""Sends its arguments, a word first, to the one who waits."""


class DiedError(Exception):
    """The program ended before its work did."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__()
        self.status = status
        """Its exit code; negative: the signal that ended it."""
        self.reason = reason
        """The last line that it wrote into its log; empty where that says nothing."""

    @property
    def killed(self) -> bool:
        """Whether it was killed, most often for want of memory."""
        return self.status == -signal.SIGKILL

    @property
    def facts(self) -> dict[str, str]:
        """For a sentence: `how` it ended, by its exit code or a signal's name; its last `words`."""
        reason = self.reason.removesuffix(".")
        words = text("attended.words", reason=reason) if reason else ""
        return {"how": how_ended(self.status), "words": words}


def signal_name(number: int) -> str:
    """As `kill -l` has it, also of a real-time signal, of which Python names two."""
    known = {each.value: each.name for each in signal.Signals}
    return known.get(number, f"SIGRTMIN{number - signal.SIGRTMIN:+d}")


def how_ended(status: int) -> str:
    """For a sentence: an exit code, or the signal that is meant by a negative one."""
    if status < 0:
        return text("attended.signal", name=signal_name(-status))
    return text("attended.code", status=status)


def attend(
    program: Sequence[str],
    log: Path,
    told: Callable[..., object],
    *,
    stopping: Callable[[], object],
    errors: Mapping[str, type[LucieError]],
    environment: Mapping[str, str] | None = None,
) -> None:
    """Run a program that calls `attended`, to its end.

    Ctrl-C lets it finish what it is at and save, and a second one ends it at once.

    Args:
        program: arguments of Python.
        log: takes what it writes to stderr, behind what is there.
        told: called with what it tells, a word first.
        stopping: called when it has been asked to stop, and may take a while to.
        errors: its errors, by the names of their classes.
        environment: more variables for it.

    Raises:
        LucieError: which it raised.
        DiedError: it ended before its work did.
    """
    log.touch()
    said_before = log.stat().st_size
    with (
        log.open("ab") as writer,
        subprocess.Popen(
            [sys.executable, *program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=writer,
            encoding="utf-8",
            # Nothing is imported from the folder that the user is in.
            env={
                **os.environ,
                "PYTHONSAFEPATH": "1",
                _AWAITED: str(os.getpid()),
                **(environment or {}),
            },
            process_group=0,
        ) as child,
    ):
        assert child.stdin is not None and child.stdout is not None  # noqa: S101, PT018 - asked for
        try:
            try:
                _listen(child.stdout, told, errors)
            except KeyboardInterrupt:
                stopping()
                child.stdin.close()  # which it understands
                _listen(child.stdout, told, errors)
                raise
            child.wait()
        finally:
            _end(child)
    if child.returncode:
        raise DiedError(child.returncode, _last_line(log, said_before))


def _end(child: subprocess.Popen[str]) -> None:
    """See to it that nothing of it is left; a launcher ends its own when it is asked to."""
    with suppress(ProcessLookupError):
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                child.wait(_GRACE_S)
        os.killpg(child.pid, signal.SIGKILL)


def _listen(
    stdout: IO[str], told: Callable[..., object], errors: Mapping[str, type[LucieError]]
) -> None:
    for line in stdout:
        try:
            word, *facts = json.loads(line)
        except (ValueError, TypeError):  # a launcher's own words
            continue
        if word == _ERROR:
            name, code, more = facts
            raise errors.get(name, LucieError)(code, **more)
        told(word, *facts)


def _last_line(log: Path, since: int) -> str:
    lines = log.read_bytes()[since:].decode("utf-8", "replace").split("\n")
    # Lines without a word, as launchers frame what they say with, tell nothing.
    said = (line for line in reversed(lines) if any(map(str.isalnum, line)))
    return one_line(next(said, ""))


def attended(work: Callable[[Tell], bool]) -> int:
    """Do the work, in the program that `attend` has started; returns its exit code.

    Args:
        work: called with what sends words to the one who waits; says whether it is finished.
            It asks `left_alone` from time to time, and is to end early when that is so.
    """
    awaited = os.environ.get(_AWAITED)
    if _LAUNCHED in os.environ:
        # One of several, which would wait for each other without end.
        end_with_parent()
    if awaited:
        end_after(int(awaited), _patience, _ending)
    for number in () if awaited else (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: _asked.set())
    told = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
    os.dup2(2, 1)  # libraries that print do not disturb

    def tell(*facts: Any) -> None:
        with suppress(BrokenPipeError):  # nobody listens; stdin says so, too
            told.write(json.dumps(facts) + "\n")

    try:
        return 0 if work(tell) else STOPPED
    except LucieError as error:
        if awaited:
            tell(_ERROR, type(error).__name__, error.code, error.facts)
        else:
            streams.tell(f"lucie: {error}")
        return error.exit_code


def left_alone() -> bool:
    """Whether nobody waits any more, or it has been asked to end; what stdin says is nothing."""
    if _AWAITED not in os.environ:
        return _asked.is_set()
    _look()
    readable, _, _ = select.select([0], [], [], 0)
    if readable and not os.read(0, 1):
        _ending.set()
    return _ending.is_set()


def _look() -> None:
    now = time.monotonic()
    last, longest = _looked or (now, 0.0)
    _looked[:] = now, max(longest, now - last)


def _patience() -> float:
    """Seconds in which the work, as it has looked so far, looks once more."""
    return max(_ALONE_S, 2 * _looked[1]) if _looked else _ALONE_S
