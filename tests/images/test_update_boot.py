"""A board takes an update from a stick, and goes back from one that does not start."""

from __future__ import annotations

import hashlib
import random
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
LOG = "writes.log"
CUTS = 20
MORE = 4096
STARTED = ("vmlinuz", "initrd")
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
    def on(self, *, stick: bool = False, log: str | None = None) -> Iterator[Console]:
        command = self._command(stick)
        if log is not None:
            (self.folder / log).touch()
            command = power.logged(command, log)
        console = Console(command, self.folder / "console.log", PATIENCE_S)
        try:
            yield console
        finally:
            console.close()

    def until_it_ends(self) -> None:
        """Switch it on, and wait until it has restarted itself, which ends the emulator."""
        subprocess.run(self._command(stick=False), stdin=subprocess.DEVNULL, check=True,
                       stdout=subprocess.DEVNULL, timeout=PATIENCE_S)  # fmt: skip

    def file(self, name: str, card: str = "card.img") -> str:
        """A text of the boot partition."""
        at, _ = power.partition(self.folder / card, 1)
        return self.inside("mtype", "-i", f"/card/{card}@@{at}", f"::{name}")

    def hashes(self, card: str, letter: str) -> dict[str, str]:
        """What the firmware would start of a slot."""
        at, _ = power.partition(self.folder / card, 1)
        found = {}
        for name in STARTED:
            self.inside("mcopy", "-noi", f"/card/{card}@@{at}", f"::{letter}/{name}", "/card/one")
            found[name] = _sha256(self.folder / "one")
        return found

    def _command(self, stick: bool) -> list[str]:
        # What its firmware would do.
        log, binds = self.folder / "log", {"/card": self.folder}
        self._started.room.run("firmware", "/card/card.img", "/card", binds=binds, log=log)
        return [*self._started.command(), *(STICK if stick else ())]


def until_told(console: Console, text: str) -> None:
    """Wait until the chat shows it, wherever its lines break."""
    console.wait_anew()
    console.until(lambda: text in " ".join(console.shown().split()), text)


def _sha256(file: Path, at: int = 0, size: int | None = None) -> str:
    with file.open("rb") as opened:
        opened.seek(at)
        return hashlib.sha256(opened.read(-1 if size is None else size)).hexdigest()


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
    subprocess.run(
        ["cp", "--sparse=always", board.folder / "card.img", board.folder / "before.img"],
        check=True,
    )
    with board.on(stick=True, log=LOG) as console:
        until_told(console, "is on the card. It starts when the board is started again")
    _any_cut_leaves_a_system(board, taken)
    assert "lucie.trial" in board.file("B/cmdline.txt")
    with board.on() as console:
        until_told(console, "This board runs version")
    assert "os_prefix=B/" in board.file("config.txt")
    assert "lucie.root=3" in board.file("B/cmdline.txt")
    assert "lucie.trial" not in board.file("B/cmdline.txt")


def _any_cut_leaves_a_system(board: Board, taken: Path) -> None:
    """Whenever the plug is pulled, what the letter names is there, whole."""
    found = power.writes(board.folder / LOG)
    chance = random.Random(20)
    # The letter is one of the last.
    places = [chance.randrange(1, len(found)) for _ in range(CUTS // 2)]
    places += [chance.randrange(len(found) - 40, len(found)) for _ in range(CUTS // 2)]
    kernel = {name: _sha256(taken / "boot" / name) for name in STARTED}  # of both systems
    whole = (taken / "root.erofs").stat().st_size
    letters, card = set[str](), board.folder / "cut.img"
    for seed, after in enumerate([*sorted(places), len(found)]):
        before = board.folder / "before.img"
        subprocess.run(["cp", "--sparse=always", before, card], check=True)
        power.cut(card, board.folder / LOG, found, after, random.Random(seed))
        letter = board.file("config.txt", card.name).partition("\nos_prefix=")[2][0]
        letters.add(letter)
        assert board.hashes(card.name, letter) == kernel
        words = board.file(f"{letter}/cmdline.txt", card.name).split()
        new = letter == "B"
        assert (f"lucie.root={2 + new}" in words, "lucie.trial" in words) == (True, new)
        assert not new or board.file("trial", card.name) in {"3 A\n", "4 A\n"}
        uefi = board.file("loader/loader.conf", card.name).partition("\ndefault ")[2][0]
        entry = board.file(f"loader/entries/{uefi}.conf", card.name)
        assert f" lucie.root={'AB'.index(uefi) + 2}" in entry
        assert board.hashes(card.name, uefi) == kernel
        at, _ = power.partition(card, 2 + new)
        size = whole - (0 if new else MORE)
        assert _sha256(card, at, size) == _sha256(taken / "root.erofs", 0, size)
    assert letters == {"A", "B"}


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
