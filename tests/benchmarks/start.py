"""Figure 4, and the terminal's part of figure 6: `lucie --help`, the chat's first frame."""

from __future__ import annotations

import fcntl
import os
import select
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.benchmarks.measure import LUCIE, Row, Target, interleave, peak_mib
from tests.benchmarks.referee import Referee

__all__ = ["first_frame", "help_text", "terminal_memory"]

_SIZE = (24, 80)
_FRAME = b"\x1b[1;1H"
"""Textual paints a whole screen from here; what comes before only sets the terminal up."""
_EMPTY = "from textual.app import App; App().run()"
_HELP_RUNS = 20


def help_text(_: Referee, model: Path, runs: int) -> list[Row]:
    """`lucie --help` against an interpreter that does nothing."""

    def seconds(*command: str | Path) -> float:
        began = time.perf_counter()
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
        return time.perf_counter() - began

    seconds(LUCIE, "--help")
    ours, bare = interleave(
        lambda: 1000 * seconds(LUCIE, "--help"),
        lambda: 1000 * seconds(sys.executable, "-c", "pass"),
        runs=max(_HELP_RUNS, runs),
    )
    return [
        Row(
            figure=4,
            what="lucie --help",
            unit="ms",
            ours=ours,
            peer=bare,
            by="python -c pass",
            target=Target(120, of="difference"),
        )
    ]


def first_frame(_: Referee, model: Path, runs: int) -> list[Row]:
    """The chat's first painted frame against that of a Textual app that shows nothing."""
    with _home(model) as home:

        def seconds(*command: str) -> float:
            with _terminal(command, home) as (_, terminal):
                return _until(terminal, _FRAME)

        chat = (str(LUCIE), "chat")
        empty = (sys.executable, "-c", _EMPTY)
        seconds(*chat), seconds(*empty)  # compile to bytecode
        ours, theirs = interleave(lambda: seconds(*chat), lambda: seconds(*empty), runs=runs)
    return [
        Row(
            figure=4,
            what="first frame of the chat, the model loading behind it",
            unit="s",
            ours=ours,
            peer=theirs,
            by=f'python -c "{_EMPTY}"',
            target=Target(1.5),
        )
    ]


def terminal_memory(_: Referee, model: Path, runs: int) -> list[Row]:
    """Peak of the terminal's process in a conversation of two turns."""
    peaks = []
    with _home(model) as home:
        for _run in range(max(2, runs // 2)):
            with _terminal((str(LUCIE), "chat"), home) as (pid, terminal):
                _until(terminal, _FRAME)
                for question in (b"Write a long poem about the sea.\r", b"And one about hills.\r"):
                    os.write(terminal, question)
                    _drain(terminal, 8)
                peaks.append(peak_mib(pid))
    return [
        Row(
            figure=6,
            what="terminal process, peak memory",
            unit="MiB",
            ours=peaks,
            peer=[],
            by="VmHWM in /proc/PID/status",
            target=Target(90, of="ours"),
        )
    ]


@contextmanager
def _home(model: Path) -> Iterator[Path]:
    """A LUCIE_HOME of its own, with the model in its store."""
    with tempfile.TemporaryDirectory() as folder:
        command = [str(LUCIE), "models", "add", str(model)]
        env = {**os.environ, "LUCIE_HOME": folder}
        subprocess.run(command, env=env, check=True, stdout=subprocess.DEVNULL)
        yield Path(folder)
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _terminal(command: Sequence[str], home: Path) -> Iterator[tuple[int, int]]:
    """Run a program in a terminal of 80 × 24; gives its process and the terminal."""
    ours, theirs = os.openpty()
    fcntl.ioctl(ours, termios.TIOCSWINSZ, struct.pack("HHHH", *_SIZE, 0, 0))
    env = {**os.environ, "LUCIE_HOME": str(home), "TERM": "xterm-256color"}
    with subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env=env, start_new_session=True
    ) as child:
        os.close(theirs)
        try:
            yield child.pid, ours
        finally:
            child.send_signal(signal.SIGTERM)
            _drain(ours, 0.5)
            child.kill()
            os.close(ours)


def _until(terminal: int, mark: bytes, most: float = 60.0) -> float:
    """Seconds until the program has written `mark`."""
    began = time.perf_counter()
    seen = b""
    while time.perf_counter() - began < most:
        if select.select([terminal], [], [], 0.1)[0]:
            seen += os.read(terminal, 65536)
            if mark in seen:
                return time.perf_counter() - began
    raise SystemExit(f"nothing was painted: {seen[-300:]!r}")


def _drain(terminal: int, seconds: float) -> None:
    """Read what is written for a while."""
    end = time.perf_counter() + seconds
    while (left := end - time.perf_counter()) > 0:
        if select.select([terminal], [], [], left)[0]:
            try:
                os.read(terminal, 65536)
            except OSError:  # the program has ended, and the terminal with it
                return
