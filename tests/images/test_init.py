"""What `board/init` does with an update on trial, and with a file system that may be damaged."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.images import updates

# As busybox has it; the names of its own commands win over programs.
STUBS = """
modprobe() { :; }
mount() { :; }
umount() { :; }
sleep() { :; }
reboot() { echo rebooted; exit 0; }
partition() { echo /dev/card1; }
"""


def count_down(boot: Path) -> str:
    """Run it with a folder for the boot partition; what it says."""
    return run(STUBS + functions().replace("/boot", str(boot)) + "\ncount_down\n")


def functions() -> str:
    init = Path("images/board/init").read_text()
    return init[init.index("# Overwrites") : init.index("\ntries=0\n")]


def run(script: str) -> str:
    ended = subprocess.run(["sh", "-eu"], input=script, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.fixture
def boot(tmp_path: Path) -> Path:
    card = updates.card(tmp_path)
    (card.boot / "config.txt").write_text(updates.CONFIG.replace("=A/", "=B/"))
    (card.boot / "loader/loader.conf").write_text(updates.LOADER.replace("A.conf", "B.conf"))
    return card.boot


def test_each_start_counts(boot: Path) -> None:
    (boot / "trial").write_text("3 A\n")
    for left in ("2 A\n", "1 A\n", "0 A\n"):
        assert count_down(boot) == ""
        assert (boot / "trial").read_text() == left
    assert "os_prefix=B/" in (boot / "config.txt").read_text()


def test_with_none_left_the_system_before_starts(boot: Path) -> None:
    (boot / "trial").write_text("0 A\n")
    assert count_down(boot).endswith("rebooted\n")
    assert (boot / "config.txt").read_text() == updates.CONFIG
    assert (boot / "loader/loader.conf").read_text() == updates.LOADER
    assert (boot / "trial").read_text() == "0 A\n"  # for that system to tell


def test_letters_and_line_ends_of_other_computers_do_not_matter(boot: Path) -> None:
    text = "# é\r\nkernel=vmlinuz\r\nos_prefix=B/\r\n"
    (boot / "config.txt").write_bytes(text.encode())
    (boot / "trial").write_text("0 A\n")
    count_down(boot)
    assert (boot / "config.txt").read_bytes() == text.replace("B/", "A/").encode()


@pytest.mark.parametrize("trial", ["", "x", "3"])
def test_a_damaged_trial_stops_no_start(boot: Path, trial: str) -> None:
    (boot / "trial").write_text(trial)
    assert count_down(boot) == ""
    assert "os_prefix=B/" in (boot / "config.txt").read_text()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """An ext4 file system."""
    device = tmp_path / "data.ext4"
    with device.open("wb") as file:
        file.truncate(8 << 20)
    subprocess.run(["mke2fs", "-q", "-t", "ext4", device], check=True)
    return device


# Says what is mounted; the replay of a journal may find errors that were noted in it.
MOUNTING = """
mount() { echo mounted; [ ! "$found" ] || debugfs -w -R "ssv state $found" "$device" 2>/dev/null; }
umount() { echo unmounted; }
"""


def mount_data(device: Path, found: str = "") -> str:
    said = f"device={device} found={found}\n{MOUNTING}"
    return run(f'{said}{functions()}\nmount_data "$device" /data || echo left\n')


def test_a_file_system_that_is_whole_is_mounted_at_once(data: Path) -> None:
    assert mount_data(data) == "mounted\n"


@pytest.mark.parametrize("state", [0, 2, 3])
def test_one_that_is_not_is_left_to_fsck(data: Path, state: int) -> None:
    subprocess.run(["debugfs", "-w", "-R", f"ssv state {state}", data], check=True)
    assert mount_data(data) == "left\n"


def test_what_is_no_file_system_is_left_to_fsck(tmp_path: Path) -> None:
    (tmp_path / "none").write_bytes(bytes(4096))
    assert mount_data(tmp_path / "none") == "left\n"
    assert mount_data(tmp_path / "missing") == "left\n"


def test_errors_that_its_journal_tells_of_are_left_to_fsck(data: Path) -> None:
    assert mount_data(data, found="3") == "mounted\nunmounted\nleft\n"
