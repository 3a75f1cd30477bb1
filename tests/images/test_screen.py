"""The chat on a screen, with a keyboard, as a class has it: nothing comes by a serial line."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from images.booting.machine import MACHINES, Started, start
from tests.images import screen
from tests.images.power import partition
from tests.images.screen import Screen, read_font

pytestmark = [
    pytest.mark.long("images/board/*", "images/building/*", "images/onboard", "images/booting"),
    pytest.mark.usefixtures("kept"),
]

PATIENCE_S = 900
DEVICES = ("-device", "virtio-gpu-pci", "-device", "qemu-xhci", "-device", "usb-kbd")
SETTINGS = '[locale]\nlanguage = "fr"\n'


@pytest.fixture
def board(built: Path, home: Path, tmp_path: Path) -> Started:
    """A French one."""
    of_virt = MACHINES["virt-a72"]
    machine = replace(of_virt, words=("console=tty1",), arguments=of_virt.arguments + DEVICES)
    started = start(next(built.glob("*.img.zst")), machine, tmp_path, home / "log")
    (tmp_path / "lucie.toml").write_text(SETTINGS)
    at, _ = partition(tmp_path / "card.img", 1)
    _inside(started, "mcopy", "-oi", f"/card/card.img@@{at}", "/card/lucie.toml", "::lucie.toml")
    return started


@pytest.fixture
def seen(board: Started) -> Iterator[Screen]:
    font = "/usr/share/consolefonts/Uni2-TerminusBold24x12.psf.gz"  # as board/…/lucie-screen
    _inside(board, "cp", font, "/card/font.gz")
    command = [word.replace("mon:stdio", "none") for word in board.command()]
    command += ["-monitor", "stdio"]
    with screen.on(command, board.folder, "/card", read_font(board.folder / "font.gz")) as shown:
        yield shown


def _inside(started: Started, *command: str) -> None:
    words = started.room.command(command, {"/card": started.folder})
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)


def test_a_french_class_asks_at_the_screen_and_is_answered(seen: Screen) -> None:
    first = seen.until(lambda text: "F1" in text, PATIENCE_S)
    assert "Vous parlez à une IA" in first
    # Where an English keyboard has these keys, a French one has other letters.
    seen.press("q", "w", "2", "bracket_left", "e")
    assert "azéê" in seen.until(lambda text: "azé" in text, PATIENCE_S)
    seen.until(lambda text: "prêt" in text, PATIENCE_S)
    seen.press("ret")
    answered = seen.until(lambda text: "jetons/s" in text, PATIENCE_S)
    assert "azéê" in answered
