"""What `board/init` does with an update on trial."""

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
    init = Path("images/board/init").read_text()
    functions = init[init.index("# Overwrites") : init.index("\ntries=0\n")]
    script = STUBS + functions.replace("/boot", str(boot)) + "\ncount_down\n"
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
