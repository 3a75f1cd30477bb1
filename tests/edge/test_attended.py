"""A program of ours that ends before its work did: how that is told."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from threading import Event

import pytest

from edge import attended
from edge.attended import DiedError, attend
from edge.orphan import end_after

KILLS_ITSELF = "import os, signal; os.kill(os.getpid(), signal.SIGTERM)"
REAL_TIME = KILLS_ITSELF.replace("SIGTERM", "SIGRTMIN + 6")


@pytest.mark.parametrize(
    ("program", "lang", "how", "words"),
    [
        (KILLS_ITSELF, "en", "signal SIGTERM", ""),
        (REAL_TIME, "en", "signal SIGRTMIN+6", ""),
        ("import sys; sys.exit('No room.\\n---')", "en", "exit code 1", ": No room"),
        ("import sys; sys.exit('Non.')", "fr", "code 1", " : Non"),
    ],
)
def test_how_it_ended_and_what_it_said_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, lang: str, how: str, words: str
) -> None:
    monkeypatch.setenv("LUCIE_LANG", lang)
    log = tmp_path / "log"
    log.write_text("what it said the last time\n")
    with pytest.raises(DiedError) as caught:
        attend(["-c", program], log, print, stopping=print, errors={})
    assert caught.value.facts == {"how": how, "words": words}


WORKS = """
import os, pathlib, sys, time
from edge import attended
attended._ALONE_S = float(sys.argv[2])
def work(tell):
    pathlib.Path(sys.argv[1], str(os.getpid())).touch()
    tell("at", 1)
    while not (sys.argv[3] == "asks" and attended.left_alone()):
        time.sleep(0.05)
    time.sleep(1)  # it saves
    pathlib.Path(sys.argv[1], "saved").touch()
    return False
raise SystemExit(attended.attended(work))
"""
WAITS = """
import pathlib, sys
from edge.attended import attend
attend(sys.argv[2:], pathlib.Path(sys.argv[1], "log"), print, stopping=print, errors={})
"""
TWO = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def begun(folder: Path, waits: subprocess.Popen[bytes], of: int) -> list[int]:
    """The processes that work there, when there are that many."""
    for _ in range(1200):
        found = [int(file.name) for file in folder.iterdir() if file.name.isdigit()]
        if len(found) == of:
            return found
        assert waits.poll() is None
        time.sleep(0.05)
    raise AssertionError("it does not begin")


def gone(pids: list[int]) -> bool:
    for _ in range(400):
        if not any(map(alive, pids)):
            return True
        time.sleep(0.05)
    return False


def start(folder: Path, launcher: list[str], grace_s: float, asks: str) -> subprocess.Popen[bytes]:
    script = folder / "works.py"
    script.write_text(WORKS)
    told = [str(script), str(folder), str(grace_s), asks]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(
        [sys.executable, "-c", WAITS, str(folder), *launcher, *told],
        stdout=subprocess.DEVNULL, env=environment,
    )  # fmt: skip


@pytest.mark.skipif(sys.platform != "linux", reason="no pidfd")
@pytest.mark.parametrize("launcher", [[], TWO], ids=["one", "two"])
def test_work_that_looks_nowhere_ends_soon_after_the_one_who_waits(
    tmp_path: Path, launcher: list[str]
) -> None:
    """As in a long step: killed with SIGKILL, a process can ask for nothing any more."""
    with start(tmp_path, launcher, 0.2, "never") as waits:
        workers = begun(tmp_path, waits, 2 if launcher else 1)
        parents = {int(Path(f"/proc/{pid}/stat").read_text().split()[3]) for pid in workers}
        assert (waits.pid in parents) == (not launcher), "torchrun is between"
        waits.kill()
    assert gone([*workers, *(parents - {waits.pid})])
    assert not (tmp_path / "saved").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="no pidfd")
def test_work_that_sees_it_in_time_may_save(tmp_path: Path) -> None:
    with start(tmp_path, [], 0.5, "asks") as waits:
        workers = begun(tmp_path, waits, 1)
        waits.kill()
    assert gone(workers)
    assert (tmp_path / "saved").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="no PR_SET_PDEATHSIG")
def test_processes_end_with_their_launcher(tmp_path: Path) -> None:
    """Which is killed, for want of memory; the one who waits is there, and is told."""
    with start(tmp_path, TWO, 600, "never") as waits:
        workers = begun(tmp_path, waits, 2)
        (launcher,) = {int(Path(f"/proc/{pid}/stat").read_text().split()[3]) for pid in workers}
        os.kill(launcher, signal.SIGKILL)
        try:
            assert gone(workers)
            assert waits.wait(60) == 1
        finally:
            waits.kill()


def test_a_python_that_knows_no_pidfd_works_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "pidfd_open", raising=False)
    end_after(os.getpid(), lambda: 0.0, Event())


def test_who_looks_seldom_is_waited_for_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LUCIE_AWAITED", str(os.getpid()))
    monkeypatch.setattr(attended, "_looked", [])
    reader, writer = os.pipe()
    stdin = os.dup(0)
    os.dup2(reader, 0)
    try:
        assert attended._patience() == 30
        for now in (0.0, 50.0, 51.0):
            monkeypatch.setattr(time, "monotonic", lambda now=now: now)
            assert not attended.left_alone()
        assert attended._patience() == 100
    finally:
        os.dup2(stdin, 0)
        for each in (reader, writer, stdin):
            os.close(each)
