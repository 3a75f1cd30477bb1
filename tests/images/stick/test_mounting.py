"""A stick is mounted, or pulled out at any moment."""

from __future__ import annotations

import errno
import os
import shutil
from hashlib import sha256
from pathlib import Path

import pytest

from images.onboard import mounting, programs, stick, taking
from tests.images.stick.conftest import (
    bundle,
    choose,
    told,
)

# As mount(8) of util-linux 2.41 says it.
DAMAGED = """mount: /run/x: wrong fs type, bad option, bad superblock on /dev/sdb9, missing \
codepage or helper program, or other error.
       dmesg(1) may have more information after failed mount system call.
"""
KINDS = {"sdb6": (0, "BitLocker"), "sdb7": (8, ""), "sdb8": (2, ""), "sdb5": (0, "")}
"""What blkid(8) ends with, and what it says."""


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """Programs that were called; some devices are such that they fail."""
    called: list[tuple[str, ...]] = []

    def run(*command: str, **_: object) -> object:
        called.append(command)
        code, kind, error = 0, "vfat", ""
        if command[0] == "mount":
            code, error = {"sdb9": (32, DAMAGED)}.get(command[-2][5:], (0, ""))
        elif command[0] == "blkid":
            code, kind = KINDS.get(command[-1][5:], (0, "vfat"))
        facts = {"returncode": code, "stdout": f"{kind}\n", "stderr": error}
        return type("Ended", (), facts)

    monkeypatch.setattr(programs, "run", run)
    monkeypatch.setattr(mounting, "run", run)
    return called


def test_who_reads_the_same_stick_reads_it_in_a_folder_of_its_own(
    board: Path, commands: list[tuple[str, ...]]
) -> None:
    with mounting.mounted("sdb1") as first:
        with mounting.mounted("sdb1") as second:
            assert first != second
        assert first.is_dir()
        assert not second.exists()
        mounts = [command for command in commands if command[0] == "mount"]
        assert [command[-1] for command in mounts] == [str(first), str(second)]
    assert not first.exists()
    assert all("ro,nosuid,nodev,noexec,nosymfollow" in command for command in mounts)


@pytest.mark.usefixtures("commands")
@pytest.mark.parametrize(
    ("device", "reason"),
    [("sdb5", "it has no file system"), ("sdb8", "it has no file system"),
     ("sdb6", "its file system is BitLocker"), ("sdb7", "it has traces of two file systems"),
     ("sdb9", r"its file system \(vfat\) is damaged")],
)  # fmt: skip
def test_what_cannot_be_mounted_is_told_in_our_words_and_leaves_no_folder(
    device: str, reason: str, board: Path
) -> None:
    with pytest.raises(OSError, match=reason), mounting.mounted(device):
        pass
    assert [each.name for each in (board / "run").iterdir()] == ["offers"]


def test_what_a_program_says_of_its_failure_is_the_reason() -> None:
    with pytest.raises(OSError, match="no good") as raised:
        programs.output("sh", "-c", "echo first >&2; echo no good >&2; exit 3")
    assert raised.value.strerror == "no good"
    with pytest.raises(OSError, match="first"):
        programs.output("sh", "-c", "echo first >&2; echo '  dmesg(1) may have more' >&2; exit 3")
    with pytest.raises(OSError, match="sh: 3"):
        programs.output("sh", "-c", "exit 3")
    assert programs.output("cat", given="read\n") == "read"


@pytest.fixture
def pulled(board: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading a file's content pulls the stick out."""

    def pull(*_: object) -> None:
        shutil.rmtree(board / "sys/sdb1", ignore_errors=True)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("edge.bundle._hash", pull)
    monkeypatch.setattr("edge.bundle._copy", pull)


@pytest.mark.usefixtures("pulled")
def test_a_stick_that_is_pulled_out_while_it_is_read_is_one_line(
    board: Path, plugged: Path
) -> None:
    bundle(plugged / "toy")
    stick.look("sdb1")
    line = "The stick was pulled out while it was being read. Plug it in again."
    assert told(board) == line
    stick.gone("sdb1")
    assert told(board) == line, "it is still to be read"
    assert list((board / "run/offers").iterdir()) == []
    stick.gone("sdb1")
    assert told(board) == ""


def test_a_stick_that_is_gone_before_it_is_mounted_is_one_line(
    board: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: str, **__: object) -> object:
        shutil.rmtree(board / "sys/sdb1")
        return type("Ended", (), {"returncode": 2, "stdout": "", "stderr": ""})

    monkeypatch.setattr(mounting, "run", fail)
    stick.look("sdb1")
    assert told(board) == "The stick was pulled out while it was being read. Plug it in again."


@pytest.mark.parametrize(
    ("result", "status", "line"),
    [("timeout", "TERM", "Reading the stick took too much time or memory"),
     ("oom-kill", "KILL", "Reading the stick took too much time or memory"),
     ("signal", "SEGV", "Reading the stick took too much time or memory"),
     ("core-dump", "BUS", "Reading the stick took too much time or memory"),
     ("watchdog", "ABRT", "Reading the stick took too much time or memory"),
     ("signal", "TERM", "The stick was pulled out"),
     ("success", "0", "The stick was pulled out")],
)  # fmt: skip
def test_a_look_that_is_cut_off_is_one_line(
    result: str, status: str, line: str, board: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another stick may be there already: it is looked at, unless it is the one that fails."""
    started: list[str] = []
    monkeypatch.setattr(stick, "run", lambda *command: started.append(command[-1]))
    monkeypatch.setenv("SERVICE_RESULT", result)
    monkeypatch.setenv("EXIT_STATUS", status)
    (board / "run/reading-sdb1").touch()
    stick.gone("sdb1")
    assert told(board).startswith(line)
    assert not (board / "run/reading-sdb1").exists()
    again = line == "The stick was pulled out"
    assert started == ["lucie-stick@sdb1.service"] * again


@pytest.mark.usefixtures("pulled")
def test_a_stick_that_is_pulled_out_while_it_is_copied_leaves_nothing(
    board: Path, plugged: Path, served: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle(plugged / "toy")
    monkeypatch.setattr("edge.bundle._hash", lambda path, _: sha256(path.read_bytes()).hexdigest())
    stick.look("sdb1")
    choose(board)
    taking.take()
    assert told(board, "stick").startswith("The stick was pulled out while toy was being copied")
    assert list((board / "data/data/models").iterdir()) == []
    assert served == []
    assert (board / "data/model").read_text() == "LUCIE_MODEL=before\n"
