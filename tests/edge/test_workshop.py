"""Who is at work in a folder."""

from __future__ import annotations

import fcntl
import shutil
import signal
from pathlib import Path

import pytest

from edge.workshop import draft_folder, held

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def test_a_second_one_is_told(tmp_path: Path) -> None:
    with held(tmp_path), pytest.raises(BlockingIOError), held(tmp_path):
        pass
    with held(tmp_path):
        pass


@pytest.mark.parametrize("again", [False, True], ids=["removed", "made anew"])
def test_a_folder_that_goes_while_one_waits_is_not_worked_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, again: bool
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    lock = fcntl.flock

    def late(fd: int, how: int) -> None:
        folder.rename(tmp_path / "old")
        if again:
            folder.mkdir()
        lock(fd, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with pytest.raises(BlockingIOError), held(folder):
        pass


def test_a_folder_that_is_gone_already_was_anothers(tmp_path: Path) -> None:
    with pytest.raises(BlockingIOError) as raised, held(tmp_path / "run"):
        pass
    assert raised.value.filename == str(tmp_path / "run")


@pytest.mark.parametrize("number", _SIGNALS)
def test_a_second_ctrl_c_leaves_nothing_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    clear = shutil.rmtree
    before = [signal.signal(each, signal.default_int_handler) for each in _SIGNALS]

    def impatient(folder: Path, **how: bool) -> None:
        signal.raise_signal(number)
        clear(folder, **how)

    monkeypatch.setattr(shutil, "rmtree", impatient)
    try:
        with pytest.raises(KeyboardInterrupt), draft_folder(tmp_path / "out") as folder:
            (folder / "part").write_text("half")
        after = [signal.getsignal(each) for each in _SIGNALS]
    finally:
        for each, answer in zip(_SIGNALS, before, strict=True):
            signal.signal(each, answer)
    assert list(tmp_path.iterdir()) == []
    assert after == [signal.default_int_handler] * 3


def test_what_is_missing_to_the_work_itself_is_told_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), held(tmp_path):
        (tmp_path / "text").read_bytes()
