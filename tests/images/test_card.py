"""A whole image, built, looked into and started: half an hour the first time, minutes later."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from edge.bundle import Bundle
from edge.paths import cache_dir
from images.building.debian import tools
from images.commands import image
from images.flashing.source import open_image

pytestmark = pytest.mark.long("images/board/*", "images/building/*", "images/onboard",
                              "images/booting", "edge/llamacpp/native.py")  # fmt: skip

# What is built is kept in the user's own cache, before a test moves LUCIE_HOME.
_KEPT = cache_dir() / "images"


def lucie_image(*arguments: str | Path) -> Result:
    return CliRunner().invoke(image, [str(each) for each in arguments], catch_exceptions=False)


@pytest.fixture(autouse=True)
def _kept(home: Path) -> None:
    _KEPT.mkdir(parents=True, exist_ok=True)
    (home / "cache").mkdir(exist_ok=True)
    (home / "cache" / "images").symlink_to(_KEPT)


@pytest.fixture(scope="module")
def built(model_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of an image for the Pi 3, and the unpacked card beside it."""
    out = tmp_path_factory.mktemp("image") / "pi3"
    with pytest.MonkeyPatch.context() as patch:
        home = tmp_path_factory.mktemp("home")
        _KEPT.mkdir(parents=True, exist_ok=True)
        (home / "cache").mkdir()
        (home / "cache" / "images").symlink_to(_KEPT)
        patch.setenv("LUCIE_HOME", str(home))
        made = lucie_image("build", "--board", "pi3", "--lang", "en", "--model",
                           model_path.parent, "--output", out)  # fmt: skip
    assert made.exit_code == 0, made.output
    source = open_image(next(out.glob("*.img.xz")), None)
    with (out.parent / "card.img").open("wb") as card:
        for offset, block in source.blocks(lambda *_: None):
            card.seek(offset)
            card.write(block)
        card.truncate(source.size)
    return out


def looked_into(built: Path, script: str) -> str:
    """What a script of the Debian that builds says of the card, /card/card.img."""
    room = tools(built.parent / "log")
    command = room.command(["sh", "-ec", script], {"/card": built.parent})
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_the_bundle_says_where_it_comes_from_and_is_whole(built: Path, model_path: Path) -> None:
    found = Bundle.open(built, verify=True).manifest
    model = Bundle.open(model_path.parent, verify=False)
    assert found.kind == "image"
    assert [parent.sha256 for parent in found.parents] == [model.sha256]
    assert found.data == model.manifest.data
    subprocess.run(["sha256sum", "--quiet", "-c", "SHA256SUMS"], cwd=built, check=True)


def test_it_is_as_small_as_was_asked_for(built: Path) -> None:
    assert next(built.glob("*.img.xz")).stat().st_size <= 450e6
    source = open_image(next(built.glob("*.img.xz")), None)
    assert source.block_map is not None
    assert source.block_map.mapped <= 1.6e9


def test_its_partitions_and_file_systems_are_clean(built: Path) -> None:
    table = json.loads(looked_into(built, "sfdisk --json /card/card.img"))["partitiontable"]
    assert [part["type"] for part in table["partitions"]] == ["c", "83", "83", "83"]
    starts = [part["start"] * 512 for part in table["partitions"]]
    cut = "dd if=/card/card.img bs=1M iflag=skip_bytes,count_bytes status=none"
    sizes = [part["size"] * 512 for part in table["partitions"]]
    looked_into(
        built,
        f"{cut} skip={starts[0]} count={sizes[0]} of=/tmp/p1; fsck.vfat -n /tmp/p1;"
        f"{cut} skip={starts[1]} count={sizes[1]} of=/tmp/p2; fsck.erofs /tmp/p2;"
        f"{cut} skip={starts[3]} count={sizes[3]} of=/tmp/p4; e2fsck -fn /tmp/p4; rm /tmp/p?",
    )


def test_it_has_what_each_board_starts_and_no_password(built: Path) -> None:
    boot = looked_into(built, "mdir -b -/ -i /card/card.img@@1M ::")
    names = {line.rsplit("/", 1)[-1] for line in boot.split()}
    assert {"config.txt", "lucie.toml", "bootcode.bin", "start_cd.elf", "start4cd.elf"} <= names
    assert {"vmlinuz", "initrd", "cmdline.txt"} <= names
    for board in ("bcm2837-rpi-3-b", "bcm2837-rpi-zero-2-w", "bcm2711-rpi-4-b", "bcm2712-rpi-5-b"):
        assert f"{board}.dtb" in names
    shadow = looked_into(
        built,
        "dd if=/card/card.img bs=1M skip=193 of=/tmp/p2 status=none;"
        "dump.erofs --cat --path=/etc/shadow /tmp/p2; rm /tmp/p2",
    )
    accounts = dict(line.split(":")[:2] for line in shadow.split())
    assert {"root", "lucie-edge"} <= accounts.keys()
    assert all(password.startswith("!") for password in accounts.values())


@pytest.mark.parametrize("machine", ["virt-a72", "raspi3b"])
def test_it_starts_and_answers_without_a_network(built: Path, machine: str) -> None:
    ended = lucie_image("boot", next(built.glob("*.img.zst")), "--machine", machine, "--test",
                        "--ask", "What is the capital of France?")  # fmt: skip
    assert ended.exit_code == 0, ended.output
    assert "Paris" in ended.stdout
