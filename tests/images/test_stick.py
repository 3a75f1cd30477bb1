"""A stick that is plugged into a running board: offered, pulled out, taken; a model removed."""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.bundle import Bundle
from images.booting.machine import MACHINES, Started, start
from images.booting.turn import Console
from images.building.room import Room
from tests.images import power
from tests.images.conftest import keep

pytestmark = [
    pytest.mark.long("images/board/*", "images/building/*", "images/onboard", "images/booting",
                     "tui/offered.py", "tui/offers.py", "tui/notices.py"),
    pytest.mark.usefixtures("kept"),
]  # fmt: skip

F4 = "\x1bOS"
LOG = "writes.log"
CUTS = 12
PATIENCE_S = 1200


class Monitor:
    """QEMU's machine protocol: what is plugged in and pulled out."""

    def __init__(self, place: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(60)
        self._socket.connect(os.path.relpath(place))  # a path of 108 bytes at most
        self._file = self._socket.makefile("rw")
        self._file.readline()
        self._do("qmp_capabilities")

    def plug_in(self) -> None:
        line = "drive_add 0 if=none,id=stick,file=/card/stick.img,format=raw"
        self._do("human-monitor-command", **{"command-line": line})
        self._do("device_add", driver="usb-storage", id="plug", drive="stick", bus="usb.0",
                 removable=True)  # fmt: skip

    def pull_out(self) -> None:
        self._do("device_del", id="plug")

    def _do(self, command: str, **arguments: object) -> None:
        self._file.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self._file.flush()
        while "return" not in (answer := json.loads(self._file.readline())):
            assert "error" not in answer, answer

    def close(self) -> None:
        self._file.close()
        self._socket.close()


class Board:
    """A board that runs, and who stands before it."""

    def __init__(self, console: Console, monitor: Monitor) -> None:
        self.console = console
        self.monitor = monitor

    def until(self, *texts: str) -> None:
        """Wait until one line of the chat after the other is on the screen."""
        self.console.wait_anew()
        self.console.until(
            lambda: all(text in " ".join(self.console.shown().split()) for text in texts), texts[0]
        )

    def until_ready(self) -> None:
        self.console.wait_anew()
        self.console.until(lambda: self.console.mood() == "green", "ready")

    def clear(self) -> None:
        """A new conversation: of what was told, only what still holds is on the screen."""
        self.console.send("\x0e")
        self.console.wait_anew()
        self.console.until(lambda: "F4: use it." not in self.console.shown(), "a new conversation")


@pytest.fixture(scope="module")
def machine(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Started:
    """A card in a machine, and a stick beside it with another model."""
    folder = tmp_path_factory.mktemp("machine")
    with pytest.MonkeyPatch.context() as patch:
        home = tmp_path_factory.mktemp("home")
        keep(home)
        patch.setenv("LUCIE_HOME", str(home))
        image = next(built.glob("*.img.zst"))
        return start(image, MACHINES["virt-a72"], folder, folder / "log")


@pytest.fixture
def board(machine: Started, model_path: Path) -> Iterator[Board]:
    folder = machine.folder
    _write_tree(folder / "stick", model_path.parent)
    _make_stick(machine.room, folder, _FAT)
    subprocess.run(
        ["cp", "--sparse=always", folder / "card.img", folder / "before.img"], check=True
    )
    (folder / LOG).touch()
    command = [*power.logged(machine.command(), LOG), "-device", "qemu-xhci,id=usb",
               "-qmp", "unix:qmp.sock,server=on,wait=off"]  # fmt: skip
    console = Console(command, folder / "console.log", PATIENCE_S)
    try:
        console.until(lambda: console.mood() is not None, "chat")
        monitor = Monitor(folder / "qmp.sock")
        yield Board(console, monitor)
        monitor.close()
    finally:
        console.close()


def _write_tree(tree: Path, model: Path) -> None:
    """One model under another name, and something that is none."""
    of = Bundle.open(model, verify=False).manifest
    other = of.model_copy(update={"name": "other-model"})
    Bundle.write(tree / "models/other-model", other, {name: model / name for name in of.files})
    (tree / "broken").mkdir()
    (tree / "broken/manifest.json").write_text("{")


_FAT = "mkfs.vfat -F 32 stick.img && mcopy -soi stick.img stick/* ::"
_EXT4 = "mke2fs -q -t ext4 -d stick stick.img"


def _make_stick(room: Room, folder: Path, system: str) -> None:
    made = f"cd /card && rm -f stick.img && truncate -s 200M stick.img && {system}"
    subprocess.run(room.command(["sh", "-c", made], {"/card": folder}), check=True)


def test_a_model_comes_from_a_stick_and_a_pulled_stick_leaves_nothing(
    board: Board, machine: Started
) -> None:
    board.until_ready()
    board.monitor.plug_in()
    board.until("A stick is being read…")
    board.monitor.pull_out()
    board.until("The stick was pulled out while it was being read. Plug it in again.")

    board.clear()
    board.monitor.plug_in()
    board.until("broken on the stick is not offered", "F4: use it.")
    board.console.send(F4)
    board.until("It answers from now on")
    board.console.send("\r")
    board.until("is being copied onto the card. Leave the stick in.")
    board.monitor.pull_out()
    board.until("nothing of it was kept, and the model is the one before.")
    _answers(board, "What is the capital of France?")

    board.clear()
    _make_stick(machine.room, machine.folder, _EXT4)
    before = len(power.writes(machine.folder / LOG))
    board.monitor.plug_in()
    board.until("F4: use it.")
    board.console.send(F4)
    board.until("It answers from now on")
    board.console.send("\r")
    board.until("answers from now on. The stick may be pulled out.")
    board.monitor.pull_out()
    _answers(board, "What is the capital of France?")
    assert "other-model" in board.console.shown()

    board.console.send(F4)
    board.until("Remove the model SmolLM2 135M Instruct from the card")
    board.console.send("\x1b[B\r")
    board.until("Remove SmolLM2 135M Instruct? Only a stick")
    board.console.send("\r")
    board.until("SmolLM2 135M Instruct is not on the card any more:")
    _answers(board, "What is the capital of France?")
    board.console.close()
    assert _model_in_use(machine, machine.folder / "card.img") == "other-model"
    _any_cut_leaves_a_model(machine, before)


def _answers(board: Board, question: str) -> None:
    """Whatever a small model says: some of it comes, by whoever answers now."""
    board.console.type(question)
    board.console.wait_anew()
    board.console.until(lambda: "● writing" in board.console.shown(), "an answer")
    board.console.send("\x1b")  # it may go on and on
    board.until_ready()


def _any_cut_leaves_a_model(machine: Started, before: int) -> None:
    """Whenever the plug is pulled while a model is taken, the one that is named is there, whole."""
    folder = machine.folder
    found = power.writes(folder / LOG)
    chance = random.Random(20)
    places = [chance.randrange(before, len(found)) for _ in range(CUTS)]
    named = set[str]()
    for seed, after in enumerate([before, *sorted(places), len(found)]):
        subprocess.run(["cp", "--sparse=always", folder / "before.img", folder / "cut.img"],
                       check=True)  # fmt: skip
        power.cut(folder / "cut.img", folder / LOG, found, after, random.Random(seed))
        named.add(_model_in_use(machine, folder / "cut.img"))
    assert named == {"smollm2-135m-instruct", "other-model"}


def _model_in_use(machine: Started, card: Path) -> str:
    """Its name; it is whole and root's, and so are the others."""
    power.take_out(card, 4, machine.folder / "data.ext4")

    def inside(*command: str) -> str:
        words = machine.room.command(command, {"/card": machine.folder})
        return subprocess.run(words, capture_output=True, text=True, check=False).stdout

    inside("e2fsck", "-p", "/card/data.ext4")
    found = machine.folder / "found"
    shutil.rmtree(found, ignore_errors=True)
    found.mkdir()
    inside("debugfs", "-R", "rdump / /card/found", "/card/data.ext4")
    models = found / "lucie/data/models"
    names = {each.name for each in models.iterdir() if each.name[0] != "."}
    for name in names:
        assert Bundle.open(models / name, verify=True).manifest.name == name
        assert (models / name).stat().st_uid == 0
    [line] = (found / "server/model").read_text().splitlines()
    used = line.removeprefix("LUCIE_MODEL=")
    assert used in names
    return used
