"""One turn on a console, with a program that draws the chat's last lines in a machine's place.

The real machine is started in `test_card.py`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from images.booting.machine import MACHINES, Started
from images.booting.turn import Talk, talk
from images.building.room import Room
from images.errors import ImageError

# Busy, ready; for each question: it waits, counts, waits again, writes twice, and is ready. What
# it waits with and what it counts come in pieces, as over a serial line. A scroll bar ends below.
CHAT = r"""
import sys, time, tty
tty.setraw(0)

def line(row, text):
    sys.stdout.write(f"\x1b[{row};3H{text}\x1b[K")
    sys.stdout.flush()
    time.sleep(0.3)

def state(colour, text):
    line(23, f"\x1b[{colour}m●\x1b[0m {text}")

print("booting\r")
state(33, "connecting"); state(32, "ready")
for row in (4, 10):
    asked = ""
    while not asked.endswith("\r"): asked += sys.stdin.read(1)
    line(row, "▌ " + asked.strip()[:60])
    sys.stdout.write(f"\x1b[{row + 1};80H▂")
    state(33, "waiting"); line(row + 2, "En"); line(row + 2, "En attente du mot"); time.sleep(1.2)
    line(row + 2, "Lecture de votre texte"); line(row + 2, "Lecture de votre texte 3/9")
    line(row + 2, "En attente du mot"); time.sleep(0.5)
    line(row + 2, "Bread"); time.sleep(1.0); line(row + 2, f"{row} breads."); state(32, "ready")
time.sleep(60)
"""
# A model that goes on for ever, until Esc; then the chat says so.
RAMBLING = (
    CHAT[: CHAT.index("for row")]
    + r"""
import select
asked = ""
while not asked.endswith("\r"): asked += sys.stdin.read(1)
line(1, "▌ " + asked.strip()[:60])
state(33, "waiting"); line(3, "En attente du premier mot")
key, row = "", 3
while key != "\x1b":
    line(row, "and so on, and so on")
    row = min(row + 1, 19)
    if select.select([sys.stdin], [], [], 0)[0]: key = sys.stdin.read(1)
    SCROLL
line(20, "stopped"); state(32, "ready")
time.sleep(60)
"""
)
QUESTIONS = ("What is there?", "And what else is there to be had for those who are hungry, too?")


def talked(program: str, tmp_path: Path, patience: float = 30, **more: Any) -> Talk:
    command = [sys.executable, "-u", "-c", program]
    return talk(command, QUESTIONS, tmp_path / "console.log", patience, **more)


def test_what_is_seen_is_timed_and_shown(tmp_path: Path) -> None:
    screens: list[str] = []
    seen = talked(CHAT, tmp_path, answered=lambda _, screen: screens.append(screen))
    assert 0 < seen.screen_s < seen.ready_s
    assert len(seen.turns) == 2
    for turn in seen.turns:
        assert turn.first_s > 3, "neither waiting nor a counter is a word"
        assert turn.answer_s - turn.first_s > 0.9, "its first word counts from when it came"
        assert (turn.words, turn.stopped) == (2, False)
    assert "4 breads." in screens[0]
    assert "10 breads." not in screens[0]
    assert "10 breads." in seen.screen
    assert "booting" in (tmp_path / "console.log").read_text()


@pytest.mark.parametrize("scroll", ["", 'line(1, "")'], ids=["in sight", "scrolled away"])
def test_an_answer_without_an_end_is_stopped(scroll: str, tmp_path: Path) -> None:
    program = RAMBLING.replace("SCROLL", scroll)
    command = [sys.executable, "-u", "-c", program]
    seen = talk(command, QUESTIONS[:1], tmp_path / "console.log", 30, most_words=20)
    [turn] = seen.turns
    assert turn.stopped
    assert 20 <= turn.words < 40
    assert "stopped" in seen.screen


def test_a_short_answer_is_not_stopped(tmp_path: Path) -> None:
    seen = talked(CHAT, tmp_path, most_words=3)
    assert [(turn.words, turn.stopped) for turn in seen.turns] == [(2, False), (2, False)]


def test_a_machine_that_ends_is_told_with_what_was_on_its_screen(tmp_path: Path) -> None:
    with pytest.raises(ImageError) as caught:
        talked("print('Kernel panic')", tmp_path)
    assert "Kernel panic" in str(caught.value)
    assert str(tmp_path / "console.log") in str(caught.value)


def test_patience_ends(tmp_path: Path) -> None:
    with pytest.raises(ImageError) as caught:
        talked("print('still starting'); import time; time.sleep(60)", tmp_path, patience=1)
    assert "still starting" in str(caught.value)
    assert "--patience" in str(caught.value)


@pytest.mark.parametrize("machine", MACHINES.values(), ids=lambda machine: machine.name)
def test_a_machine_has_no_network_and_the_console_of_its_board(machine, tmp_path: Path) -> None:
    (tmp_path / "cmdline.txt").write_text("console=serial0,115200 console=tty1 psi=1")
    command = Started(Room(tmp_path), tmp_path, machine).command()
    assert command[command.index("-nic") + 1] == "none"
    if machine.firmware:
        assert command[command.index("-bios") + 1] == machine.firmware
        assert not {"-kernel", "-initrd", "-append"} & set(command), "the card itself has them"
    else:
        line = command[command.index("-append") + 1]
        assert line == f"{' '.join(machine.words)} psi=1"
        assert line.count("console=") == 1
