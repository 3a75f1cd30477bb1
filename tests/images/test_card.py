"""A whole image, built, looked into and started: half an hour the first time, minutes later."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from edge.bundle import Bundle
from images.booting.machine import MACHINES, start
from images.booting.turn import talk
from images.commands import image
from images.errors import ImageError
from images.flashing.source import open_image
from images.unpacking import unpack
from tests.images.conftest import lucie_image
from tests.images.published import all_are_summed

pytestmark = [
    pytest.mark.long("images/board/*", "images/building/*", "images/publishing",
                     "images/onboard", "images/booting", "images/checking.py"),
    pytest.mark.usefixtures("kept"),
]  # fmt: skip


@pytest.fixture(scope="module")
def card(built: Path) -> Path:
    """What is written on a card."""
    unpack(next(built.glob("*.img.xz")), built.parent / "card.img")
    return built.parent / "card.img"


def test_the_bundle_says_where_it_comes_from_and_is_whole(built: Path, model_path: Path) -> None:
    found = Bundle.open(built, verify=True).manifest
    model = Bundle.open(model_path.parent, verify=False)
    assert found.kind == "image"
    assert [parent.sha256 for parent in found.parents] == [model.sha256]
    assert found.data == model.manifest.data
    all_are_summed(built)


def test_it_lists_what_it_is_made_of(built: Path) -> None:
    [cdx] = built.glob("*.cdx.json")
    components = json.loads(cdx.read_text(encoding="utf-8"))["components"]
    there = {each["name"]: each for each in components}
    wanted = Path("images/board/packages").read_text(encoding="utf-8").split()
    wanted += ["textual", "numpy", "llama-cpp-python", "lucie-edge", "smollm2-135m-instruct"]
    assert [name for name in wanted if name not in there] == []
    # All but one body of text, of which it is not known.
    assert [name for name, each in there.items() if "licenses" not in each] == ["The Stack"]
    [spdx] = built.glob("*.spdx.json")
    packages = json.loads(spdx.read_text(encoding="utf-8"))["packages"]
    assert there.keys() <= {each["name"] for each in packages}


def test_raspberry_pi_imager_can_offer_it(built: Path, card: Path) -> None:
    manifest = built.with_name("pi3.rpi-imager-manifest")
    [entry] = json.loads(manifest.read_text(encoding="utf-8"))["os_list"]
    assert entry["url"] == next(built.glob("*.img.xz")).as_uri()
    assert entry["extract_size"] == card.stat().st_size
    with card.open("rb") as file:
        assert entry["extract_sha256"] == hashlib.file_digest(file, "sha256").hexdigest()
    assert entry["devices"] == ["pi5-64bit", "pi4-64bit", "pi3-64bit"]


def test_it_is_as_small_as_was_asked_for(built: Path) -> None:
    assert next(built.glob("*.img.xz")).stat().st_size <= 450e6
    source = open_image(next(built.glob("*.img.xz")), None)
    assert source.block_map is not None
    assert source.block_map.mapped <= 1.6e9


def test_it_keeps_to_every_contract(built: Path) -> None:
    looked = lucie_image("check", next(built.glob("*.img.xz")), "--json")
    found = {contract["name"]: contract for contract in json.loads(looked.stdout)}
    assert len(found) == 12
    assert [name for name, contract in found.items() if not contract["kept"]] == []


def test_it_starts_by_uefi_as_well(built: Path, home: Path, tmp_path: Path) -> None:
    """What the firmware finds on the card is started, not what QEMU is given; nothing is asked."""
    started = start(next(built.glob("*.img.zst")), MACHINES["virt-uefi"], tmp_path, home / "log")
    seen = talk(started.command(), (), tmp_path / "console.log", 1200)
    assert 0 < seen.screen_s <= seen.ready_s


def test_a_flipped_bit_is_found(card: Path) -> None:
    with card.open("r+b") as file:
        for at in ((1 + 192 + 64) << 20, (1 + 30) << 20):  # in the system, in Linux
            file.seek(at)
            byte = file.read(1)[0]
            file.seek(at)
            file.write(bytes([byte ^ 1]))
    looked = CliRunner().invoke(image, ["check", str(card), "--json"])
    assert isinstance(looked.exception, ImageError)
    broken = [each["name"] for each in json.loads(looked.stdout) if not each["kept"]]
    assert {"read-only-system", "boot-files"} <= set(broken)
    assert "data-system" not in broken


def test_what_is_no_card_is_told(tmp_path: Path) -> None:
    (tmp_path / "none.img").write_bytes(bytes(1 << 20))
    looked = CliRunner().invoke(image, ["check", str(tmp_path / "none.img"), "--json"])
    assert isinstance(looked.exception, ImageError)
    kept = [each["name"] for each in json.loads(looked.stdout) if each["kept"]]
    assert kept == [], "of nothing, nothing holds"


def test_it_starts_and_answers_without_a_network(built: Path) -> None:
    ended = lucie_image("boot", next(built.glob("*.img.zst")), "--machine", "virt-a72", "--test",
                        "--ask", "What is the capital of France?")  # fmt: skip
    assert ended.exit_code == 0, ended.output
    assert "What is the capital of France?" in ended.stdout
    # Whatever a model says: some of it came.
    told = re.search(r"First word [\d.]+ s .* \((\d+) words\)", ended.stderr)
    assert told is not None, ended.stderr
    assert int(told[1]) > 0
