"""What ends a command that makes something."""

from __future__ import annotations

import os
import pty
import sys
from pathlib import Path

import pytest

_WORK = """
import os, signal, sys, time
from pathlib import Path
import click
from edge import interrupt
from edge.workshop import draft_folder
signal.signal(signal.SIGHUP, getattr(signal, sys.argv[1]))
interrupt.end_as_by_ctrl_c()
try:
    with draft_folder(Path("out")) as folder:
        (folder / "half").touch()
        print("ready", flush=True)
        time.sleep(0.5)
        signal.pause() if sys.argv[1] == "SIG_DFL" else Path("done").touch()
except KeyboardInterrupt:
    click.echo("Interrupted.", err=True)
    print("Nothing is left.", flush=True)
    sys.exit(130)
"""


@pytest.mark.parametrize(
    ("answer", "code", "left"),
    [
        pytest.param("SIG_DFL", 130, [], id="of a shell"),
        pytest.param("SIG_IGN", 0, ["done"], id="under nohup"),
    ],
)
def test_a_terminal_that_closes_leaves_nothing_half_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str, code: int, left: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, "-c", _WORK, answer])
    while b"ready" not in os.read(terminal, 100):
        pass
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == code
    assert [each.name for each in tmp_path.iterdir()] == left
