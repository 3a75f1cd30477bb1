"""Work in another process: what comes back, and what happens when it ends before its time."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from quantize.errors import QuantizeUsageError
from quantize.own_process import DiedError, OwnProcess, Tell, in_own_process


def double(tell: Tell, number: int) -> tuple[int, int]:
    tell("doubling", number)
    return 2 * number, os.getpid()


def refuse(_: Tell) -> None:
    raise QuantizeUsageError("quantize.needs-imatrix", type="IQ1_S")


def be_killed(_: Tell) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def have_no_room() -> None:
    raise QuantizeUsageError("quantize.needs-imatrix", type="IQ2_S")


def write_for_ever(tell: Tell, path: Path) -> None:
    while True:
        path.write_text(str(time.monotonic()))
        tell()
        time.sleep(0.01)


def test_result_and_what_is_told_on_the_way() -> None:
    told: list[tuple[object, ...]] = []
    result, pid = in_own_process(double, 21, told=lambda *what: told.append(what))
    assert (result, told) == (42, [("doubling", 21)])
    assert pid != os.getpid()


def test_an_error_that_a_person_understands_comes_through() -> None:
    with pytest.raises(QuantizeUsageError, match="IQ1_S"):
        in_own_process(refuse)


def test_a_process_that_is_killed_is_told_by_its_signal() -> None:
    with pytest.raises(DiedError) as caught:
        in_own_process(be_killed)
    assert caught.value.how == "signal SIGKILL"


def test_a_process_that_cannot_begin_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def short(*_: object) -> None:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    ends: list[Connection] = []

    def pipe() -> tuple[Connection, Connection]:
        ends.extend(Pipe())
        return ends[0], ends[1]

    monkeypatch.setattr(multiprocessing.context.SpawnProcess, "start", short)
    monkeypatch.setattr(multiprocessing, "Pipe", pipe)
    with pytest.raises(DiedError) as caught:
        in_own_process(double, 21)
    assert caught.value.how == "Cannot allocate memory"
    assert [end.closed for end in ends] == [True, True]


def test_what_happens_before_it_begins_is_told_as_its_result() -> None:
    with OwnProcess(double, have_no_room) as process:
        [started] = multiprocessing.active_children()
        started.join()
        process.begin(21)
        with pytest.raises(QuantizeUsageError, match="IQ2_S"):
            process.result()


def test_one_that_is_killed_before_it_begins() -> None:
    with OwnProcess(double) as process:
        [started] = multiprocessing.active_children()
        started.kill()
        started.join()
        process.begin(21)
        with pytest.raises(DiedError) as caught:
            process.result()
    assert caught.value.how == "signal SIGKILL"


def test_one_that_never_begins_is_ended_with_its_place() -> None:
    with OwnProcess(double):
        assert len(multiprocessing.active_children()) == 1
    assert multiprocessing.active_children() == []


def test_the_first_of_a_program_is_deaf_to_ctrl_c_too() -> None:
    """With it, multiprocessing starts a process of its own and lets Ctrl-C through again."""
    code = """
import multiprocessing, re, signal
from pathlib import Path
from tests.quantize.test_own_process import double
from quantize.own_process import OwnProcess
with OwnProcess(double):
    [child] = multiprocessing.active_children()
    blocked = re.search("SigBlk:(.*)", Path(f"/proc/{child.pid}/status").read_text())[1]
    assert int(blocked, 16) >> signal.SIGINT - 1 & 1, blocked
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_ctrl_c_ends_it(tmp_path: Path) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        in_own_process(write_for_ever, tmp_path / "alive", told=interrupt)
    assert multiprocessing.active_children() == []
    last = (tmp_path / "alive").read_text()
    time.sleep(0.1)
    assert (tmp_path / "alive").read_text() == last
