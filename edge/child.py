"""A server process of our own: started apart from the terminal, its end explained."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from edge.attended import signal_name
from edge.errors import EngineError
from edge.messages import text
from edge.text import one_line

__all__ = ["Child", "last_words"]

_PROGRAM = "import sys; from edge.program import main; sys.exit(main())"
_SAID = "lucie: "
"""How a `lucie` process that knows why it failed begins its last line."""
_TAIL_BYTES = 4096
_MOST = 1000  # characters: what a clear error with a long path takes
_STEP_S = 0.02


class Child:
    """A `lucie` process in a session of its own, where Ctrl-C in our terminal does not reach it.

    Args:
        arguments: of the command `lucie`.
        log: what it prints goes there; written anew, in a folder that exists.

    Raises:
        EngineError: the system starts no process, or the log cannot be written.
    """

    def __init__(self, arguments: Sequence[str], log: Path) -> None:
        self._log = log
        self._status: int | None = None
        # -P: the folder that the user happens to be in is no place to import from.
        command = [sys.executable, "-P", "-c", _PROGRAM, *arguments]
        # Appending keeps the log whole when its writer cuts it short.
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND
        try:
            self.pid = os.posix_spawn(
                sys.executable,
                command,
                os.environ,
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_OPEN, 1, str(log), flags, 0o600),
                    (os.POSIX_SPAWN_DUP2, 1, 2),
                ],
                setsid=True,
                setsigmask=(),
                setsigdef=(signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE),
            )
        except OSError as error:
            raise EngineError("local.not-started", reason=one_line(error)) from error

    def ended(self) -> bool:
        """Whether the process is over."""
        if self._status is None:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:  # somebody else waited for it: how it ended is lost
                pid, status = self.pid, 0
            if pid:
                self._status = os.waitstatus_to_exitcode(status)
        return self._status is not None

    async def wait(self, seconds: float) -> bool:
        """Give it some time to end; returns whether it did."""
        for _ in range(round(seconds / _STEP_S)):
            if self.ended():
                return True
            await asyncio.sleep(_STEP_S)
        return self.ended()

    def kill(self) -> None:
        """End it at once."""
        if not self.ended():
            os.kill(self.pid, signal.SIGKILL)

    def cause(self) -> EngineError:
        """How it ended, and what may be done about it."""
        status = self._status or 0
        if status == -signal.SIGKILL:
            return EngineError("local.killed")
        line = last_line(self._log)
        if status < 0:
            name = signal_name(-status)
            return EngineError("local.crashed", signal=name, words=last_words(self._log))
        if status > 0 and line.startswith(_SAID):
            return EngineError("local.said", line=line.removeprefix(_SAID))
        return EngineError("local.ended", status=status, words=last_words(self._log))


def last_words(log: Path) -> str:
    """The part of a sentence that quotes the log; empty where nothing was said."""
    line = last_line(log)
    return text("local.words", log=log, line=line) if line else ""


def last_line(log: Path) -> str:
    """The last thing that a process wrote into its log; empty where there is none."""
    try:
        with log.open("rb") as opened:
            opened.seek(max(0, opened.seek(0, os.SEEK_END) - _TAIL_BYTES))
            said = opened.read().decode("utf-8", "replace")
    except OSError:
        return ""
    lines = [line for line in said.splitlines() if line.strip()]
    return one_line(lines[-1], _MOST) if lines else ""
