"""The plug is pulled at any moment: nothing is lost but the answer that was being written."""

from __future__ import annotations

import random
import shutil
import sqlite3
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from edge.history import History
from images.booting.machine import MACHINES, Started, start
from images.booting.turn import Turn, talk
from images.building.room import Room
from images.onboard.secrets import Kept
from tests.images import power
from tests.images.conftest import keep

pytestmark = [
    pytest.mark.long("images/board/*", "images/building/*", "images/onboard", "images/booting",
                     "edge/history.py", "edge/database.py", "tui/keeping.py", "tui/archive.py"),
    pytest.mark.usefixtures("kept"),
]  # fmt: skip

QUESTIONS = tuple(f"What is the capital of {land}?" for land in ("France", "Italy", "Spain"))
MOST_WORDS = 20
"""Of an answer; the model may ramble, and is stopped then."""
CUTS = 20
SETTINGS = '[locale]\nlanguage = "en"\n\n[user]\nname = "anne"\npassword = "a secret of anne"\n'
LOG = "writes.log"


@dataclass
class Run:
    folder: Path
    room: Room
    """Where the programs are of the versions that a board has."""
    before: Path
    """The card before the machine was started."""
    writes: list[power.Write]
    answered: list[int]
    """Writes that had been made when each answer had been on the screen for some seconds."""

    def inside(self, *command: str) -> subprocess.CompletedProcess[str]:
        words = self.room.command(command, {"/card": self.folder})
        return subprocess.run(words, capture_output=True, text=True)

    def cut(self, after: int, seed: int) -> Path:
        """The card as it is when the power is cut after so many writes."""
        card = self.folder / "cut.img"
        subprocess.run(["cp", "--sparse=always", self.before, card], check=True)
        power.cut(card, self.folder / LOG, self.writes, after, random.Random(seed))
        return card


@pytest.fixture(scope="module")
def run(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A first start and a talk, with all writes of the card noted."""
    folder = tmp_path_factory.mktemp("machine")
    image, log = next(built.glob("*.img.zst")), folder / "log"
    with pytest.MonkeyPatch.context() as patch:
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
    command = power.logged(started.command(), LOG)
    talk(command, QUESTIONS, folder / "console.log", 1200, after, MOST_WORDS)
    return Run(folder, started.room, before, power.writes(folder / LOG), answered)


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
    power.take_out(card, 4, run.folder / "data.ext4")
    repaired = run.inside("e2fsck", "-p", "/card/data.ext4")
    assert repaired.returncode in {0, 1}, repaired.stdout
    looked = run.inside("e2fsck", "-fn", "/card/data.ext4")
    assert looked.returncode == 0, looked.stdout
    found = run.folder / "found"
    shutil.rmtree(found, ignore_errors=True)
    found.mkdir()
    run.inside("debugfs", "-R", "rdump / /card/found", "/card/data.ext4")
    assert _said(found) >= answers
    _settings_are_whole(found / "settings")
    power.take_out(card, 1, run.folder / "boot.fat")
    told = run.inside("mtype", "-i", "/card/boot.fat", "::lucie.toml")
    assert 'name = "anne"' in told.stdout, told.stderr
    kept = found / "settings/passwords.json"
    assert "a secret of anne" in told.stdout or Kept.model_validate_json(kept.read_text()).account


def _said(found: Path) -> int:
    """Answers in the history whose end is there."""
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
    return sum(m.role == "assistant" and m.state in {"complete", "stopped"} for m in messages)


def _settings_are_whole(folder: Path) -> None:
    for tree in folder.glob("tree-*"):
        assert (tree / "run/lucie-settings/units").exists()
        assert (tree / "run/lucie-news/settings").exists()
        assert (tree / "etc/hostname").read_text() == "lucie\n"


def test_a_board_starts_again_after_a_cut(run: Run) -> None:
    subprocess.run(["cp", "--sparse=always", run.cut(run.answered[1], 7), run.folder / "card.img"],
                   check=True)  # fmt: skip
    again = Started(run.room, run.folder, MACHINES["virt-a72"])
    question, record = "What is the capital of Germany?", run.folder / "console2.log"
    had = talk(again.command(), [question], record, 1200, most_words=MOST_WORDS)
    assert 0 < had.turns[0].first_s < had.turns[0].answer_s
