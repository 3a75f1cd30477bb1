"""A board takes an update from a stick, and goes back from one that does not start."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from images.booting.machine import MACHINES, Started, start
from images.booting.turn import Console
from images.building.update import pack
from tests.images import power, updates
from tests.images.conftest import keep

pytestmark = [
    pytest.mark.long("images/board/*", "images/building/*", "images/onboard", "images/booting"),
    pytest.mark.usefixtures("kept"),
]

PATIENCE_S = 1200
STICK = ("-device", "qemu-xhci", "-drive", "if=none,id=stick,format=raw,file=stick.img",
         "-device", "usb-storage,drive=stick,removable=on")  # fmt: skip


class Board:
    """An emulated one, whose plug is pulled at the end of each `on`."""

    def __init__(self, started: Started) -> None:
        self._started = started
        self.folder = started.folder

    def inside(self, *command: str) -> str:
        words = self._started.room.command(command, {"/card": self.folder})
        return subprocess.run(words, check=True, capture_output=True, text=True).stdout

    def plug(self, update: Path) -> None:
        """Have a stick with that file, from the next start on."""
        stick = self.folder / "stick.img"
        stick.unlink(missing_ok=True)
        with stick.open("wb") as file:
            file.truncate(300 << 20)
        self.inside("sh", "-c", "echo 'start=1MiB, type=c' | sfdisk -q /card/stick.img")
        self.inside("mkfs.vfat", "-F", "32", "--offset=2048", "/card/stick.img")
        self.inside("mcopy", "-i", "/card/stick.img@@1M", f"/card/{update.name}", "::")

    @contextmanager
    def on(self, *, stick: bool = False) -> Iterator[Console]:
        console = Console(self._command(stick), self.folder / "console.log", PATIENCE_S)
        try:
            yield console
        finally:
            console.close()

    def until_it_ends(self) -> None:
        """Switch it on, and wait until it has restarted itself, which ends the emulator."""
        subprocess.run(self._command(stick=False), stdin=subprocess.DEVNULL, check=True,
                       stdout=subprocess.DEVNULL, timeout=PATIENCE_S)  # fmt: skip

    def file(self, name: str) -> str:
        """A text of the boot partition."""
        at, _ = power.partition(self.folder / "card.img", 1)
        return self.inside("mtype", "-i", f"/card/card.img@@{at}", f"::{name}")

    def _command(self, stick: bool) -> list[str]:
        # What its firmware would do.
        log, binds = self.folder / "log", {"/card": self.folder}
        self._started.room.run("firmware", "/card/card.img", "/card", binds=binds, log=log)
        return [*self._started.command(), *(STICK if stick else ())]


def until_told(console: Console, text: str) -> None:
    """Wait until the chat shows it, wherever its lines break."""
    console.wait_anew()
    console.until(lambda: text in " ".join(console.shown().split()), text)


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return updates.ssh_key(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def board(built: Path, key: Path, tmp_path_factory: pytest.TempPathFactory) -> Board:
    """One that trusts the key."""
    folder = tmp_path_factory.mktemp("board")
    with pytest.MonkeyPatch.context() as patch:
        home = tmp_path_factory.mktemp("home")
        keep(home)
        patch.setenv("LUCIE_HOME", str(home))
        image = next(built.glob("*.img.zst"))
        board = Board(start(image, MACHINES["virt-a72"], folder, folder / "log"))
    public = key.with_name(f"{key.name}.pub").read_text().strip()
    settings = f'[locale]\nlanguage = "en"\n\n[update]\nkeys = ["{public}"]\n'
    (folder / "lucie.toml").write_text(settings)
    at, _ = power.partition(folder / "card.img", 1)
    board.inside("mcopy", "-oi", f"/card/card.img@@{at}", "/card/lucie.toml", "::lucie.toml")
    return board


@pytest.fixture(scope="module")
def taken(board: Board) -> Path:
    """What an update of the board's own system brings."""
    (board.folder / "files").mkdir()
    binds = {"/card": board.folder}
    board._started.room.run("update", "/card/card.img", "/card/files", binds=binds,
                            log=board.folder / "log")  # fmt: skip
    return board.folder / "files"


def test_an_update_runs_when_the_board_starts_again(board: Board, taken: Path, key: Path) -> None:
    with (taken / "root.erofs").open("ab") as system:
        system.write(
            bytes(4096)
        )  # behind its end: another one by its hash, and not by what it does
    pack(taken, updates.MADE, key, board.folder / "good.lucie-update")
    board.plug(board.folder / "good.lucie-update")
    with board.on(stick=True) as console:
        until_told(console, "is on the card. It starts when the board is started again")
    assert "lucie.trial" in board.file("B/cmdline.txt")
    with board.on() as console:
        until_told(console, "This board runs version")
    assert "os_prefix=B/" in board.file("config.txt")
    assert "lucie.root=3" in board.file("B/cmdline.txt")
    assert "lucie.trial" not in board.file("B/cmdline.txt")


def test_one_that_does_not_start_is_followed_by_the_one_before(
    board: Board, taken: Path, key: Path
) -> None:
    broken = board.folder / "broken"
    shutil.copytree(taken, broken)
    (broken / "root.erofs").write_bytes(b"no system" * 1000)
    pack(broken, updates.MADE + timedelta(days=1), key, board.folder / "bad.lucie-update")
    board.plug(board.folder / "bad.lucie-update")
    with board.on(stick=True) as console:
        until_told(console, "is on the card. It starts when the board is started again")
    for _ in range(4):  # three tries, and a start that goes back
        assert "os_prefix=A/" in board.file("config.txt")
        board.until_it_ends()
    assert "os_prefix=B/" in board.file("config.txt")
    with board.on() as console:
        until_told(console, "did not come as far as the chat on this board")
