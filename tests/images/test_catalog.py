"""What Raspberry Pi Imager reads, and `lucie image catalog`."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from jsonschema import Draft7Validator

from edge.bundle import Bundle
from edge.errors import DamagedModelError, ModelError
from edge.manifest import Manifest
from images.boards import boards
from images.commands import image
from images.errors import ImageError, ImageUsageError
from tests.images.images import content
from tests.images.published import image_bundle

SCHEMA = json.loads(Path(__file__).with_name("os_list.schema.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def pi3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("published")
    made = image_bundle(folder / "pi3", folder / "work").path
    return made.rename(folder / "pi3 à jour")


@pytest.fixture(scope="module")
def pi5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("published")
    return image_bundle(folder / "pi5", folder / "work", ("pi5-64bit",)).path


def catalog(*arguments: str | Path) -> Result:
    return CliRunner().invoke(image, ["catalog", *map(str, arguments)])


def listed(text: str) -> dict[str, Any]:
    told = json.loads(text)
    assert [error.message for error in Draft7Validator(SCHEMA).iter_errors(told)] == []
    return dict(told)


def changed(bundle: Path, out: Path, **fields: Any) -> Path:
    """The bundle with something else in its list."""
    files = {file.name: file for file in bundle.iterdir() if file.name != "manifest.json"}
    told = json.loads(files["lucie.os_list.json"].read_text(encoding="utf-8"))
    told["os_list"][0].update(fields)
    files["lucie.os_list.json"] = out.with_suffix(".json")
    files["lucie.os_list.json"].write_text(json.dumps(told), encoding="utf-8")
    return Bundle.write(out, Bundle.open(bundle, verify=False).manifest.model_copy(
        update={"files": {}}), files).path  # fmt: skip


def test_a_bundle_says_how_its_image_is_offered(pi3: Path) -> None:
    [entry] = listed((pi3 / "lucie.os_list.json").read_text(encoding="utf-8"))["os_list"]
    packed = (pi3 / "lucie.img.xz").read_bytes()
    assert entry["extract_size"] == len(content())
    assert entry["extract_sha256"] == hashlib.sha256(content()).hexdigest()
    assert entry["image_download_size"] == len(packed)
    assert entry["image_download_sha256"] == hashlib.sha256(packed).hexdigest()
    assert entry["init_format"] == "rpi-preseed"
    assert entry["release_date"] == "2026-01-01"
    assert entry["devices"] == ["pi3-64bit"]
    assert entry["name"] == "Lucie Edge, tiny"
    assert "sans réseau" in entry["description"], "in the language of its chat"
    for file in (entry["icon"], entry["url"], entry["bmap_url"]):
        assert (pi3 / file).is_file()


def test_images_of_this_computer_are_listed_with_their_boards(pi3: Path, pi5: Path) -> None:
    ended = catalog(pi3, pi5)
    told = listed(ended.stdout)
    one, other = told["os_list"]
    assert one["url"] == (pi3 / "lucie.img.xz").as_uri()
    assert one["icon"] == (pi3 / "icon.svg").as_uri()
    assert other["bmap_url"] == (pi5 / "lucie.img.bmap").as_uri()
    names = [device["name"] for device in told["imager"]["devices"]]
    assert names == [boards()[name].title for name in ("pi5", "pi3", "zero2w")]


def test_images_that_are_published_are_listed_by_their_address(
    pi3: Path, pi5: Path, tmp_path: Path
) -> None:
    out = tmp_path / "os_list.json"
    ended = catalog(pi3, pi5, "--url", "https://example.org/images/", "-o", out)
    assert (ended.exit_code, ended.stdout) == (0, "")
    one, other = listed(out.read_text(encoding="utf-8"))["os_list"]
    assert one["url"] == "https://example.org/images/pi3%20%C3%A0%20jour/lucie.img.xz"
    assert other["icon"] == "https://example.org/images/pi5/icon.svg"
    assert list(tmp_path.iterdir()) == [out]


def test_a_list_takes_the_place_of_an_earlier_one(pi5: Path, tmp_path: Path) -> None:
    out = tmp_path / "mine.rpi-imager-manifest"
    out.write_text("old", encoding="utf-8")
    assert catalog(pi5, "-o", out).exit_code == 0
    assert len(listed(out.read_text(encoding="utf-8"))["os_list"]) == 1


@pytest.mark.parametrize(
    "url",
    ["example.org", "ftp://example.org", "https://", "https://[x", "https://a/?b", "https://a/#b"],
)
def test_what_is_no_address_is_refused(pi5: Path, url: str) -> None:
    assert isinstance(catalog(pi5, "--url", url).exception, ImageUsageError)


def test_two_of_one_name_cannot_have_one_address(pi5: Path, tmp_path: Path) -> None:
    shutil.copytree(pi5, tmp_path / "pi5")
    ended = catalog(pi5, tmp_path / "pi5", "--url", "https://example.org")
    assert isinstance(ended.exception, ImageUsageError)
    assert "pi5" in str(ended.exception)
    assert catalog(pi5, tmp_path / "pi5").exit_code == 0


@pytest.mark.parametrize(
    "fields",
    [
        {"image_download_sha256": "0" * 64},
        {"image_download_size": 1},
        {"url": "../other.img.xz"},
        {"url": "https://example.com/evil.img.xz"},
        {"icon": "file:///etc/passwd"},
        {"bmap_url": "none.bmap"},
        {"init_format": "systemd"},
        {"devices": []},
        {"name": "\x1b[2J"},
        {"subitems_url": "https://example.com"},
    ],
    ids=" ".join,
)
def test_a_bundle_that_says_what_is_not_so_is_refused(
    pi5: Path, tmp_path: Path, fields: dict[str, Any]
) -> None:
    out = tmp_path / "list.json"
    ended = catalog(changed(pi5, tmp_path / "odd", **fields), "-o", out)
    assert isinstance(ended.exception, ImageError)
    assert "lucie.os_list.json" in str(ended.exception)
    assert not out.exists()


def test_damage_is_noticed(pi5: Path, tmp_path: Path) -> None:
    shutil.copytree(pi5, tmp_path / "pi5")
    packed = tmp_path / "pi5" / "lucie.img.xz"
    packed.write_bytes(packed.read_bytes()[:-1] + b"?")
    assert isinstance(catalog(tmp_path / "pi5").exception, DamagedModelError)


def test_what_is_no_image_is_told(tmp_path: Path) -> None:
    assert isinstance(catalog(tmp_path).exception, ModelError)
    (tmp_path / "file").touch()
    manifest = Manifest(kind="gguf", name="model", provenance="unknown")
    other = Bundle.write(tmp_path / "model", manifest, {"model.gguf": tmp_path / "file"})
    ended = catalog(other.path)
    assert isinstance(ended.exception, ImageError)
    assert "lucie image build" in str(ended.exception)


@pytest.mark.parametrize("place", ["none/list.json", "file/list.json", "folder", ".", "..", "/"])
def test_where_nothing_can_be_written_nothing_is_left(
    pi5: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    ended = catalog(pi5, "-o", place)
    assert isinstance(ended.exception, ImageError)
    assert str(ended.exception).startswith(f"Cannot write {place}: ")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["file", "folder"]
