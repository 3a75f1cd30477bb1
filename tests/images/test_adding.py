"""One more model for a finished image: what is told of it, and what is refused."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from edge.bundle import Bundle
from edge.errors import LucieError, StoreError
from edge.manifest import Manifest, Parent
from edge.store import Model
from images.building.adding import Addition, _before, add_model, beside
from images.building.debian import tools
from images.building.papers import papers_again
from images.building.room import EPOCH, STEPS, Room, remove
from images.errors import ImageError
from images.publishing.cdx import cyclonedx_document
from images.publishing.component import Component
from images.publishing.merging import merged_cdx, merged_spdx
from images.publishing.spdx import spdx_document
from tests.edge.gguf_files import tiny
from tests.images.conftest import lucie_image
from tests.images.published import image_bundle


def part(name: str, *parts: Component, learned: tuple[Component, ...] = ()) -> Component:
    kind = "model" if learned else "library"
    return Component(kind=kind, name=name, version="1", sha256=f"{len(name):064}", parts=parts,
                     learned_from=learned)  # type: ignore[arg-type]  # fmt: skip


def card(name: str, *parts: Component) -> Component:
    return Component(kind="image", name=name, version="1", sha256="a" * 64, parts=parts)


WEB = Component(kind="data", name="web")
ONE = part("one", Component(kind="file", name="one.gguf"), learned=(WEB,))
TWO = part("two", Component(kind="file", name="two.gguf"),
           learned=(WEB, Component(kind="data", name="books")))  # fmt: skip
SYSTEM = part("system", part("in it"))


def test_lists_that_are_put_together_are_those_of_the_whole() -> None:
    """The oracle is the list that is written of both models at once."""
    whole, before, more = card("new", SYSTEM, ONE, TWO), card("old", SYSTEM, ONE), card("new", TWO)
    cdx = json.loads(merged_cdx(cyclonedx_document(before, 0), cyclonedx_document(more, 0)))
    expected = json.loads(cyclonedx_document(whole, 0))
    for of in (cdx, expected):
        of["components"].sort(key=lambda each: each["bom-ref"])
        of["dependencies"].sort(key=lambda each: each["ref"])
    assert cdx == expected
    spdx = json.loads(merged_spdx(spdx_document(before, 0), spdx_document(more, 0)))
    expected = json.loads(spdx_document(whole, 0))
    for of in (spdx, expected):
        of["packages"].sort(key=lambda each: each["SPDXID"])
        of["relationships"].sort(key=lambda each: sorted(each.values()))
    assert spdx == expected


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"packages": []}', '{"metadata": 1}'])
def test_what_is_no_list_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"CycloneDX|SPDX|value"):
        merged_cdx(text, cyclonedx_document(card("new", TWO), 0))
    with pytest.raises(ValueError, match=r"CycloneDX|SPDX|value"):
        merged_spdx(text, spdx_document(card("new", TWO), 0))


# --- an image, as it lies in its bundle


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with all that goes with an image, but for what is on the card."""
    folder = tmp_path_factory.mktemp("published")
    made = image_bundle(folder / "pi3", folder / "work")
    manifest = made.manifest.model_copy(
        update={"recipe": {"board": "zero2w", "language": "fr"},
                "parents": (Parent(name="tiny", sha256="0" * 64),)}
    )  # fmt: skip
    (made.path / "manifest.json").write_text(manifest.model_dump_json(), encoding="utf-8")
    return made.path


def model(folder: Path, name: str = "toy") -> Model:
    weights = tiny("llama").write(folder / "weights")
    manifest = Manifest(kind="gguf", name=name, licence="MIT", provenance="declared")
    made = Bundle.write(folder / name, manifest, {"toy.gguf": weights})
    return Model(name, made.path / "toy.gguf", made.path)


def refused(image: Path, chosen: Model, out: Path) -> LucieError:
    """Why nothing is made."""
    with pytest.raises(LucieError) as caught:
        add_model(Addition(image, chosen, default=True), out, out.with_name("log"), lambda _: None)
    assert not out.exists()
    assert not list(out.parent.glob(".tmp-*"))
    return caught.value


def test_the_papers_of_an_image_with_one_more_model(built: Path, tmp_path: Path) -> None:
    before = _before(built / "lucie.img.xz")
    card = tmp_path / "card"
    card.mkdir()
    (card / "lucie-two.img").write_bytes(b"card")
    (card / "lucie-two.img.xz").write_bytes(b"packed")
    added = model(tmp_path)
    assert added.folder is not None
    bundle = Bundle.open(added.folder, verify=True)
    papers_again(card, before.told, bundle, None, "en")
    cdx = json.loads((card / "lucie-two.cdx.json").read_text(encoding="utf-8"))
    there = {each["name"]: each for each in cdx["components"]}
    assert {"greeting", "httpx-sse", "tiny", "toy"} <= set(there)
    [weights] = there["toy"]["components"]
    assert weights["name"] == "toy/toy.gguf", "another model may have a file of that name"
    [entry] = json.loads((card / "lucie-two.os_list.json").read_text(encoding="utf-8"))["os_list"]
    assert entry["name"] == before.told.entry.name, "it starts with the model before"
    assert entry["url"] == "lucie-two.img.xz"
    papers_again(card, before.told, bundle, ["pi5-64bit"], "en")
    [entry] = json.loads((card / "lucie-two.os_list.json").read_text(encoding="utf-8"))["os_list"]
    assert "toy" in entry["description"] + entry["name"]
    assert entry["devices"] == ["pi5-64bit"]


def test_it_is_made_beside_the_other(built: Path, tmp_path: Path) -> None:
    assert beside(built / "lucie.img.xz", model(tmp_path)) == built.with_name("pi3-toy")


def test_a_model_that_is_there_is_refused(built: Path, tmp_path: Path) -> None:
    error = refused(built / "lucie.img.xz", model(tmp_path, "tiny"), tmp_path / "out")
    assert error.code == "add.there"


def test_a_damaged_model_is_refused(built: Path, tmp_path: Path) -> None:
    damaged = model(tmp_path)
    with damaged.path.open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\xff")
    assert refused(built / "lucie.img.xz", damaged, tmp_path / "out").code == "bundle.wrong-hash"


def test_a_plain_file_is_refused(built: Path, tmp_path: Path) -> None:
    plain = Model("toy", model(tmp_path).path, None)
    assert refused(built / "lucie.img.xz", plain, tmp_path / "out").code == "build.no-bundle"


def test_a_model_too_large_for_the_board_is_refused(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("images.boards.SYSTEM", 1 << 60)
    error = refused(built / "lucie.img.xz", model(tmp_path), tmp_path / "out")
    assert error.code == "build.no-room"
    assert "Zero 2 W" in str(error)


def test_a_full_disk_is_told_before_the_work(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free)
    error = refused(built / "lucie.img.xz", model(tmp_path), tmp_path / "out")
    assert error.code == "build.disk-full"


def test_a_bundle_that_is_there_is_not_overwritten(built: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(StoreError):
        add_model(Addition(built / "lucie.img.xz", model(tmp_path), default=True), out,
                  tmp_path / "log", lambda _: None)  # fmt: skip
    assert list(out.iterdir()) == []


@pytest.mark.parametrize(
    "spoil",
    [
        lambda folder: (folder / "manifest.json").unlink(),
        lambda folder: (folder / "manifest.json").write_text("{"),
        lambda folder: (folder / "lucie.cdx.json").unlink(),
        lambda folder: (folder / "lucie.cdx.json").write_text("{}"),
        lambda folder: (folder / "lucie.os_list.json").write_text("{}"),
    ],
)
def test_an_image_of_which_nothing_is_told_is_refused(
    spoil: object, built: Path, tmp_path: Path
) -> None:
    shutil.copytree(built, tmp_path / "spoilt")
    spoil(tmp_path / "spoilt")  # type: ignore[operator]
    with pytest.raises(ImageError) as caught:
        _before(tmp_path / "spoilt/lucie.img.xz")
    assert caught.value.code == "add.no-image"


def test_a_folder_is_no_image(tmp_path: Path) -> None:
    """Also one without a name."""
    for folder in (tmp_path, Path("/")):
        with pytest.raises(ImageError) as caught:
            lucie_image("add-model", folder, "x")
        assert caught.value.code == "add.no-image"


# --- the card itself


@pytest.fixture
def tools_here(kept: None, tmp_path: Path) -> Room:
    """The Debian that builds, which may have to be made."""
    return tools(tmp_path / "log")


def laid_out(room: Room, folder: Path, models: Mapping[str, str], chosen: str) -> bytes:
    """A small card with these models, as `disk.sh` makes one but for its system."""
    folder.mkdir()
    for name, content in models.items():
        (folder / "data/lucie/data/models" / name).mkdir(parents=True)
        (folder / "data/lucie/data/models" / name / "weights").write_text(content)
    (folder / "data/server").mkdir()
    (folder / "data/server/model").write_text(f"LUCIE_MODEL={chosen}\n")
    made = """
        cd /card && sh /steps/data.sh data 1234abcd data.ext4
        truncate -s $((16 * 1048576 + $(stat -c %s data.ext4))) card.img
        printf '%s\\n' 'label: dos' 'label-id: 0x1234abcd' \\
            'start=1MiB, size=5MiB, type=c, bootable' 'size=5MiB, type=83' 'size=5MiB, type=83' \\
            'type=83' | sfdisk -q card.img
        dd if=data.ext4 of=card.img bs=1M seek=16 conv=notrunc,sparse status=none
    """
    environment = ["env", f"SOURCE_DATE_EPOCH={EPOCH}", "PATH=/usr/sbin:/usr/bin"]
    words = [*environment, "sh", "-euc", made]
    binds = {"/steps": STEPS, "/card": folder}
    subprocess.run(room.command(words, binds), check=True, capture_output=True)
    return (folder / "card.img").read_bytes()


def to_come(folder: Path, name: str, content: str) -> dict[str, Path]:
    """What `add.sh` is given, and where it works, as they are bound."""
    added = folder / "data/lucie"
    (added / "data/models" / name).mkdir(parents=True)
    (added / "data/models" / name / "weights").write_text(content)
    (folder / "data/server").mkdir()
    (folder / "data/server/model").write_text(f"LUCIE_MODEL={name}\n")
    work = folder.with_name("work")
    work.mkdir()
    return {"/in": folder, "/work": work}


STEP = [f"images/building/steps/{name}.sh" for name in ("add", "data", "rdump")]


@pytest.mark.long(*STEP)
def test_a_card_with_one_more_model_is_that_of_both(tools_here: Room, tmp_path: Path) -> None:
    one, two = {"one": "a" * 5_000_000}, {"two": "b" * 3_000_000}
    both = laid_out(tools_here, tmp_path / "both", one | two, "two")
    laid_out(tools_here, tmp_path / "first", one, "one")
    binds = {"/card": tmp_path / "first", **to_come(tmp_path / "added", "two", two["two"])}
    log = tmp_path / "log"
    add = ("add", "/card/card.img", "/in", "/work")
    tools_here.run(*add, binds=binds, log=log)
    assert (tmp_path / "first/card.img").read_bytes() == both
    remove(tmp_path / "work")
    (tmp_path / "work").mkdir()
    with pytest.raises(LucieError):
        tools_here.run(*add, binds=binds, log=log)
    assert "two is there already" in log.read_text()
    assert (tmp_path / "first/card.img").read_bytes() == both, "and nothing has been changed"


@pytest.mark.long(*STEP)
def test_a_disk_that_fills_up_leaves_the_card_as_it_was(tools_here: Room, tmp_path: Path) -> None:
    """It has room for the data partition, and not for what is in it besides."""
    before = laid_out(tools_here, tmp_path / "first", {"one": "a" * 9_000_000}, "one")
    binds = {"/card": tmp_path / "first", "/steps": STEPS, **to_come(tmp_path / "in", "two", "b")}
    add = """
        mount -t tmpfs -o size=16M work /work
        exec sh /steps/add.sh /card/card.img /in /work
    """
    words = ["env", f"SOURCE_DATE_EPOCH={EPOCH}", "PATH=/usr/sbin:/usr/bin", "sh", "-euc", add]
    ended = subprocess.run(tools_here.command(words, binds), capture_output=True, text=True)
    assert ended.returncode != 0
    assert ended.stderr.splitlines()[-1] == "rdump: No space left on device while writing file"
    assert (tmp_path / "first/card.img").read_bytes() == before
