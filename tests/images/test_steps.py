"""What an update and an emulator take from a card, by the letter of the system that it starts."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from edge.bootstrap.build import BuildError
from images.building.debian import tools
from images.building.room import EPOCH, STEPS, Room

pytestmark = pytest.mark.long(
    *(f"images/building/steps/{name}.sh" for name in ("firmware", "slot", "update"))
)

# A card with two systems, which are told apart by a file, and `config.txt` of what is given.
_CARD = """
cd /card
for letter in A B; do
    mkdir -p "$letter" "boot/$letter"
    echo "$letter" > "$letter/system"
    echo "$letter" > "boot/$letter/vmlinuz"
    mkfs.erofs --quiet "$letter.erofs" "$letter"
done
printf "$1" > boot/config.txt
mkfs.vfat -C boot.fat 4096 > boot.said
mcopy -smi boot.fat boot/* ::
truncate -s 16M card.img
printf '%s\\n' 'label: dos' 'start=1MiB, size=5MiB, type=c' 'size=4MiB, type=83' \\
    'size=4MiB, type=83' 'type=83' | sfdisk -q card.img
dd if=boot.fat of=card.img bs=1M seek=1 conv=notrunc status=none
dd if=A.erofs of=card.img bs=1M seek=6 conv=notrunc status=none
dd if=B.erofs of=card.img bs=1M seek=10 conv=notrunc status=none
"""


@pytest.fixture
def room(kept: None, tmp_path: Path) -> Room:
    """The Debian that builds, which may have to be made."""
    return tools(tmp_path / "log")


def card(room: Room, folder: Path, config: str) -> Path:
    """A folder with a card of two small systems."""
    folder.mkdir()
    words = ["env", "-i", f"SOURCE_DATE_EPOCH={EPOCH}", "PATH=/usr/sbin:/usr/bin"]
    command = room.command(
        [*words, "sh", "-euc", _CARD, "sh", config], {"/card": folder, "/steps": STEPS}
    )
    subprocess.run(command, check=True)
    (folder / "out").mkdir()
    return folder


@pytest.mark.parametrize("letter", ["A", "B"])
def test_an_update_is_of_the_system_that_the_card_starts(
    letter: str, room: Room, tmp_path: Path
) -> None:
    folder = card(room, tmp_path / "card", rf"# os_prefix=C/\nos_prefix={letter}/\n")
    room.run("update", "/card/card.img", "/card/out", binds={"/card": folder}, log=tmp_path / "log")
    system = folder / f"{letter}.erofs"
    assert (folder / "out/root.erofs").read_bytes() == system.read_bytes()
    assert [file.name for file in (folder / "out/boot").iterdir()] == ["vmlinuz"]
    assert (folder / "out/boot/vmlinuz").read_text() == f"{letter}\n"


@pytest.mark.parametrize("step", ["firmware", "update"])
@pytest.mark.parametrize(
    "config", ["arm_64bit=1\n", r"os_prefix=A/\nos_prefix=B/\n", r"os_prefix=C/\n"]
)
def test_a_card_that_does_not_say_what_it_starts_is_refused(
    step: str, config: str, room: Room, tmp_path: Path
) -> None:
    folder = card(room, tmp_path / "card", config)
    log = tmp_path / "log"
    with pytest.raises(BuildError):
        room.run(step, "/card/card.img", "/card/out", binds={"/card": folder}, log=log)
    assert log.read_text().splitlines()[-1] == "no card of ours"
    assert not [file for file in (folder / "out").rglob("*") if file.is_file()]


def test_what_has_no_partitions_is_refused(room: Room, tmp_path: Path) -> None:
    (tmp_path / "card").mkdir()
    (tmp_path / "card/card.img").write_bytes(bytes(1 << 20))
    with pytest.raises(BuildError):
        room.run("firmware", "/card/card.img", "/card", binds={"/card": tmp_path / "card"},
                 log=tmp_path / "log")  # fmt: skip
    assert "no card of ours" in (tmp_path / "log").read_text()


def test_a_card_that_was_cut_short_makes_no_update(room: Room, tmp_path: Path) -> None:
    folder = card(room, tmp_path / "card", r"os_prefix=B/\n")
    os.truncate(folder / "card.img", (10 << 20) + 2048)  # what tells its size is there
    log = tmp_path / "log"
    with pytest.raises(BuildError):
        room.run("update", "/card/card.img", "/card/out", binds={"/card": folder}, log=log)
    assert log.read_text().splitlines()[-1] == "the card ends inside its system: it was cut short"
