"""The plug is pulled at any moment: nothing is lost but the answer that was being written."""

from __future__ import annotations

import random
import shutil
import sqlite3
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from edge.history import History
from images.booting.machine import MACHINES, Started, start
from images.booting.turn import Turn, talk
from images.building.debian import tools
from images.onboard.secrets import Kept
from tests.images import power

pytestmark = [
    pytest.mark.long("images/board/*", "images/building/*", "images/onboard", "images/booting",
                     "edge/history.py", "edge/database.py", "tui/keeping.py", "tui/archive.py"),
    pytest.mark.usefixtures("kept"),
]  # fmt: skip

QUESTIONS = tuple(f"What is the capital of {land}?" for land in ("France", "Italy", "Spain"))
# The model answers them in a few words.
CUTS = 20
SETTINGS = '[locale]\nlanguage = "en"\n\n[user]\nname = "anne"\npassword = "a secret of anne"\n'
LOG = "writes.log"


@dataclass
class Run:
    folder: Path
    before: Path
    """The card before the machine was started."""
    writes: list[power.Write]
    answered: list[int]
    """Writes that had been made when each answer had been on the screen for some seconds."""

    def cut(self, after: int, seed: int) -> Path:
        """The card as it is when the power is cut after so many writes."""
        card = self.folder / "cut.img"
        subprocess.run(["cp", "--sparse=always", self.before, card], check=True)
        power.cut(card, self.folder / LOG, self.writes, after, random.Random(seed))
        return card


@pytest.fixture(scope="module")
def run(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A first start and a talk, with all writes of the card noted."""
    import time

    folder = tmp_path_factory.mktemp("machine")
    image, log = next(built.glob("*.img.zst")), folder / "log"
    with pytest.MonkeyPatch.context() as patch:
        from tests.images.conftest import keep

        home = tmp_path_factory.mktemp("home")
        keep(home)
        patch.setenv("LUCIE_HOME", str(home))
        started = start(image, MACHINES["virt-a72"], folder, log)
        card, before = folder / "card.img", folder / "before.img"
        _write_settings(started, folder, card)
        subprocess.run(["cp", "--sparse=always", card, before], check=True)
    answered: list[int] = []

    def after(_turn: Turn, _screen: str) -> None:
        time.sleep(15)  # emulated, a commit of SQLite takes seconds
        answered.append(len(power.writes(folder / LOG)))

    (folder / LOG).touch()
    talk(power.logged(started.command(), LOG), QUESTIONS, folder / "console.log", 1200, after)
    return Run(folder, before, power.writes(folder / LOG), answered)


def _write_settings(started: Started, folder: Path, card: Path) -> None:
    (folder / "lucie.toml").write_text(SETTINGS)
    start, _ = power.partition(card, 1)
    words = ["mcopy", "-oi", f"/card/card.img@@{start}", "/card/lucie.toml", "::lucie.toml"]
    subprocess.run(started.room.command(words, {"/card": folder}), check=True)


def test_no_cut_loses_more_than_the_answer_being_written(run: Run) -> None:
    assert len(run.writes) > 100
    chance = random.Random(20)
    places = sorted(chance.randrange(1, len(run.writes)) for _ in range(CUTS))
    places[-3:] = run.answered  # and right after each answer
    for seed, after in enumerate(places):
        _is_whole(run, run.cut(after, seed), sum(after >= done for done in run.answered))


def _is_whole(run: Run, card: Path, answers: int) -> None:
    """What a board finds that is started again: see `systemd-fsck`."""
    data = _cut_out(card, 4, run.folder / "data.ext4")
    repaired = subprocess.run(["e2fsck", "-p", data], capture_output=True, text=True)
    assert repaired.returncode in {0, 1}, repaired.stdout
    subprocess.run(["e2fsck", "-fn", data], check=True, capture_output=True)
    found = run.folder / "found"
    shutil.rmtree(found, ignore_errors=True)
    found.mkdir()
    subprocess.run(["debugfs", "-R", f"rdump / {found}", data], check=True, capture_output=True)
    assert _said(found) >= answers
    _settings_are_whole(found / "settings")
    boot = _cut_out(card, 1, run.folder / "boot.fat")
    told = subprocess.run(["mtype", "-i", boot, "::lucie.toml"], capture_output=True, text=True)
    assert 'name = "anne"' in told.stdout, told.stderr
    kept = found / "settings/passwords.json"
    assert "a secret of anne" in told.stdout or Kept.model_validate_json(kept.read_text()).account


def _cut_out(card: Path, number: int, to: Path) -> Path:
    start, size = power.partition(card, number)
    if number == 4 and start + size > card.stat().st_size:
        pytest.fail("the table names what is beyond the card")
    with card.open("rb") as source, to.open("wb") as target:
        source.seek(start)
        shutil.copyfileobj(_Part(source, size), target, 1 << 20)
    return to


class _Part:
    def __init__(self, file: object, size: int) -> None:
        self.file, self.left = file, size

    def read(self, size: int) -> bytes:
        data = self.file.read(min(size, self.left))  # type: ignore[attr-defined]
        self.left -= len(data)
        return data


def _said(found: Path) -> int:
    """Answers that are whole in the history."""
    [*files] = found.rglob("history.sqlite3")
    if not files:
        return 0
    with sqlite3.connect(files[0]) as raw:
        assert raw.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    history = History.open(files[0])
    try:
        messages = [m for c in history.conversations() for m in history.load(c.id)]
    finally:
        history.close()
    return sum(m.role == "assistant" and m.state == "complete" for m in messages)


def _settings_are_whole(folder: Path) -> None:
    for tree in folder.glob("tree-*"):
        assert (tree / "run/lucie-settings/units").exists()
        assert (tree / "run/lucie-settings/notice").exists()
        assert (tree / "etc/hostname").read_text() == "lucie\n"


def test_a_board_starts_again_after_a_cut(run: Run) -> None:
    subprocess.run(["cp", "--sparse=always", run.cut(run.answered[1], 7), run.folder / "card.img"],
                   check=True)  # fmt: skip
    again = Started(tools(run.folder / "log"), run.folder, MACHINES["virt-a72"])
    had = talk(
        again.command(), ["What is the capital of Germany?"], run.folder / "console2.log", 1200
    )
    assert QUESTIONS[1] in had.screen, "it goes on with the conversation that was there"
    assert "Berlin" in had.screen
