"""A card as `disk.sh` lays it, of small files, and what `check` sees of it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest

from images.building.debian import tools
from images.building.room import EPOCH, STEPS, Room
from images.checking import check
from images.flashing.source import open_image
from tests.images.conftest import keep

pytestmark = pytest.mark.long(
    *(f"images/building/steps/{name}.sh" for name in ("check", "data", "disk", "rdump"))
)

BOARDS = ("bcm2837-rpi-3-b", "bcm2837-rpi-3-b-plus", "bcm2837-rpi-zero-2-w", "bcm2711-rpi-4-b",
          "bcm2711-rpi-400", "bcm2712-rpi-5-b", "bcm2712-d-rpi-5-b")  # fmt: skip
STARTED = ("bootcode.bin", "start_cd.elf", "start4cd.elf", "fixup_cd.dat", "fixup4cd.dat",
           "vmlinuz", "initrd", "systemd-bootaa64.efi", "overlays/README",
           *(f"{board}.dtb" for board in BOARDS))  # fmt: skip
DATA = (1 + 192 + 2 * 64) << 20
"""Where the data partition of such a card begins."""
NOT_THERE = {"stepping", "uefi", "services", "passwords", "licences"}
"""Contracts that want a real system."""
ROOT = """
    cd /card/system && mkdir -p root/etc/ssh root/root root/home && : > root/etc/machine-id
    mkfs.erofs --quiet -T$SOURCE_DATE_EPOCH -U00000000-0000-0000-0000-000000000000 root.erofs root
"""


def run(room: Room, script: str, folder: Path) -> str:
    """What a script says that has a folder as `/card`."""
    environment = ["env", f"SOURCE_DATE_EPOCH={EPOCH}", "PATH=/usr/sbin:/usr/bin"]
    words = [*environment, "sh", "-euc", script]
    command = room.command(words, {"/steps": STEPS, "/card": folder})
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def write(folder: Path, files: Iterable[tuple[str, str]], mode: int) -> None:
    """Write them into a folder, so that those in the mode can do with them what it says."""
    for name, content in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    for path in folder.rglob("*"):
        path.chmod(mode if path.is_dir() else mode & 0o666)


def laid(room: Room, folder: Path, mode: int, order: int = 1) -> Path:
    """A card whose files had that mode, and were written in that order."""
    given, system = folder / "given", folder / "system"
    shutil.copytree("images/board/boot", given / "boot")
    weights = "weights" * 1000
    told = {"weights": {"sha256": hashlib.sha256(weights.encode()).hexdigest()}}
    model = {"weights": weights, "manifest.json": json.dumps({"files": told})}
    data = [(f"lucie/data/models/tiny/{name}", content) for name, content in model.items()]
    write(given / "data", [*data, ("server/model", "LUCIE_MODEL=tiny\n")][::order], mode)
    write(given / "tree", [("etc/keys", "fr\n")], 0o755)
    write(system / "boot", [(name, name * 1000) for name in STARTED[::order]], mode)
    run(room, ROOT, folder)
    (folder / "out").mkdir()
    binds = {"/given": given, "/system": system, "/out": folder / "out"}
    room.run("disk", "/given", "/system", "/out", binds=binds, log=folder / "log")
    return folder / "out/lucie.img"


@pytest.fixture(scope="module")
def private(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A card whose files were those of its builder alone."""
    folder = tmp_path_factory.mktemp("private")
    (folder / "home").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LUCIE_HOME", str(folder / "home"))
        keep(folder / "home")
        made = laid(tools(folder / "log"), folder, 0o700)
        run(tools(folder / "log"), "cd /card/out && bmaptool -q create -o lucie.img.bmap lucie.img",
            folder)  # fmt: skip
    return made


@pytest.fixture
def room(kept: None, tmp_path: Path) -> Room:
    """The Debian that builds, which may have to be made."""
    return tools(tmp_path / "log")


def broken(card: Path, log: Path) -> set[str]:
    """Contracts that a card does not keep to, of those that it can."""
    return {each.name for each in check(card, log) if not each.kept} - NOT_THERE


def test_whoever_builds_gets_the_same_bytes(private: Path, room: Room, tmp_path: Path) -> None:
    shared = laid(room, tmp_path, 0o775, order=-1)
    with private.open("rb") as one, shared.open("rb") as other:
        digests = {hashlib.file_digest(file, "sha256").hexdigest() for file in (one, other)}
    assert len(digests) == 1


def test_files_lie_in_the_order_of_their_names(private: Path, room: Room) -> None:
    listed = run(room, "mdir -bi /card/lucie.img@@1M ::A", private.parent).splitlines()
    names = [name.rpartition("/")[2] for name in listed if not name.endswith("/")]
    assert "vmlinuz" in names
    assert names == sorted(names)


def test_what_a_card_held_before_is_nowhere_in_its_partitions(
    private: Path, kept: None, tmp_path: Path
) -> None:
    """A journal of the image that it held before is one that Linux would replay."""
    card = tmp_path / "card.img"
    card.write_bytes(b"\xff" * private.stat().st_size)
    image = open_image(private)
    assert image.block_map is not None
    assert image.block_map.mapped < image.block_map.image_size / 2
    with card.open("r+b") as file:
        for offset, block in image.blocks(lambda *_: None):
            file.seek(offset)
            file.write(block)
    with card.open("rb") as now, private.open("rb") as expected:
        now.seek(DATA)
        expected.seek(DATA)
        assert now.read() == expected.read()
    assert broken(card, tmp_path / "log") == set()


@pytest.mark.parametrize(
    ("script", "contract"),
    [
        ("mcopy -oi $boot other ::A/initrd", "boot-files"),
        ("mcopy -oi $boot other ::start4cd.elf", "boot-files"),
        ("mcopy -i $boot other ::rpi-preseed.toml", "secrets"),
        ("printf '[user]\\n\\tpassword = \"a\"\\n' > told; mcopy -oi $boot told ::lucie.toml",
         "secrets"),
        ("echo 'wlan.ssid = \"a\"' > told; mcopy -oi $boot told ::lucie.toml", "secrets"),
        ("printf 'cd lucie\\nwrite other history.db\\n' | debugfs -wf - $data", "secrets"),
        ("debugfs -wR 'mkdir /ssh' $data", "secrets"),
        ("debugfs -wR 'sif /lucie/data/models/tiny/weights mode 0100600' $data", "model"),
        ("debugfs -wR 'sif /lucie/data/models/tiny mode 040700' $data", "model"),
    ],
)  # fmt: skip
def test_what_is_not_as_it_was_built_is_told(
    script: str, contract: str, private: Path, room: Room, tmp_path: Path
) -> None:
    card = tmp_path / "card.img"
    subprocess.run(["cp", "--sparse=always", private, card], check=True)
    places = f"cd /card && boot=card.img@@1M data=card.img?offset={DATA} && echo a > other\n"
    run(room, places + script, tmp_path)
    assert broken(card, tmp_path / "log") == {contract}


@pytest.mark.parametrize("mebibytes", [1, 1946, 3890, 8000])
def test_a_model_of_any_size_has_room(mebibytes: int, room: Room, tmp_path: Path) -> None:
    models = tmp_path / "data/lucie/data/models/large"
    models.mkdir(parents=True)
    (tmp_path / "data/server").mkdir()
    (models / "weights").touch()
    os.truncate(models / "weights", mebibytes << 20)  # nothing is copied of what is a hole
    script = "cd /card && sh /steps/data.sh data 1234abcd data.ext4 && dumpe2fs -h data.ext4"
    told = run(room, script, tmp_path)
    facts = {key: value for key, _, value in (line.partition(":") for line in told.splitlines())}
    assert int(facts["Free blocks"]) * int(facts["Block size"]) > (mebibytes + 8) << 20
