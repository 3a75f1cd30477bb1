"""The chat in a terminal of its own, as a process: for signals, hang-ups and kills."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import sys
import termios
import textwrap
import time
from pathlib import Path

SCRIPTED = """
    import sys
    from pathlib import Path
    sys.path.insert(0, {root!r})
    from tests.tui.scripted import Pause, ScriptedServer
    from edge.client import Delta
    from tui.app import ChatApp
    from tui.archive import Archive
    from tui.chat_screen import ChatScreen
    import tui.signals
    from tui.signals import leaving_on_signals
    from tui.source import Source
    tui.signals._PATIENCE_S = 1000.0  # it is to end by itself
    server = ScriptedServer([Delta("Half an answer"), Pause()])
    app = ChatApp(ChatScreen(Source(lambda: server), Archive(Path({path!r})), lambda _: []))
    with leaving_on_signals(app.leave_soon):
        app.run()
    sys.exit(app.return_code or 0)
"""


class Terminal:
    """A program behind a pseudo-terminal; what it writes is read as it comes."""

    def __init__(self, code: str, **environment: str) -> None:
        self.output = b""
        self._ended = False
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            for name in ("COLORTERM", "NO_COLOR", "PYTHONUNBUFFERED"):
                os.environ.pop(name, None)
            os.environ.update({"TERM": "xterm-256color"} | environment)
            os.execv(sys.executable, [sys.executable, "-c", textwrap.dedent(code)])
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))

    def write(self, text: str) -> None:
        os.write(self._fd, text.encode())

    def read_until(self, marker: str, seconds: float = 20.0) -> None:
        deadline = time.monotonic() + seconds
        while marker.encode() not in self.output:
            assert time.monotonic() < deadline, self.output[-2000:]
            assert not self._ended, self.output[-2000:]
            self._read(0.1)

    def _read(self, seconds: float) -> bool:
        if not select.select([self._fd], [], [], seconds)[0]:
            return False
        try:
            data = os.read(self._fd, 65536)
        except OSError:
            self._ended = True
            return False
        self.output += data
        return bool(data)

    def hang_up(self) -> None:
        """As when the terminal's window is closed or the line is cut."""
        os.close(self._fd)
        self._fd = -1

    def wait(self, seconds: float = 30.0) -> int:
        """The exit code."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self._fd >= 0:
                self._read(0.05)
            else:
                time.sleep(0.05)
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                if self._fd >= 0:
                    os.close(self._fd)
                return os.waitstatus_to_exitcode(status)
        raise AssertionError("it did not end")


def scripted(path: Path, **environment: str) -> Terminal:
    """The chat, with a server that stops in mid-answer."""
    code = textwrap.dedent(SCRIPTED).format(root=str(Path(__file__).parents[2]), path=str(path))
    return Terminal(code, **environment)
