"""A disk without room is told before the work, and not as a broken step or image."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from edge.bundle import Bundle
from edge.manifest import Manifest
from edge.paths import cache_dir
from images.commands import image
from images.errors import ImageError
from tests.edge.gguf_files import tiny
from tests.images.images import write_image

_GB = 10**9
_UNPACKED = Path("/var/tmp")


@pytest.fixture
def begins(monkeypatch: pytest.MonkeyPatch) -> None:
    """No work is done but to say that it has begun."""

    def begin(*_: object) -> None:
        raise ImageError("build.busy", path="begun")

    monkeypatch.setattr("images.building.build.build", begin)
    monkeypatch.setattr("images.checking.check", begin)


def ended(monkeypatch: pytest.MonkeyPatch, free: dict[Path, float], *words: object) -> str:
    """At which place a command says that there is no room, or "begun"."""

    def usage(folder: Path) -> SimpleNamespace:
        return SimpleNamespace(free=next(n for at, n in free.items() if folder.is_relative_to(at)))

    monkeypatch.setattr(shutil, "disk_usage", usage)
    error = CliRunner().invoke(image, [str(word) for word in words]).exception
    assert isinstance(error, ImageError), error
    assert (error.code == "build.disk-full") == (error.facts["path"] != "begun")
    return str(error.facts["path"])


@pytest.mark.usefixtures("begins")
@pytest.mark.parametrize(
    ("here", "cache", "first", "told"),
    [
        (1.1, 3.6, True, "begun"),
        (0.9, 9, True, "here"),
        (9, 3.4, True, "cache"),
        (1.1, 1.1, False, "begun"),
        (9, 0.9, False, "cache"),
    ],
)
def test_a_card_has_room_where_it_is_made_and_where_parts_are_kept(
    tmp_path: Path,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    here: float,
    cache: float,
    first: bool,
    told: str,
) -> None:
    weights = tiny("llama").write(tmp_path / "weights")
    manifest = Manifest(kind="gguf", name="toy", licence="MIT", provenance="declared")
    model = Bundle.write(tmp_path / "toy", manifest, {"toy.gguf": weights}).path
    if not first:
        (cache_dir() / "images/root-0").mkdir(parents=True)
    free = {tmp_path: here * _GB, home: cache * _GB}
    where = {"begun": "begun", "here": f"{tmp_path}/new", "cache": str(cache_dir())}
    out = tmp_path / "new/out"
    assert ended(monkeypatch, free, "build", "--model", model, "--output", out) == where[told]
    assert not out.parent.exists()


@pytest.mark.usefixtures("begins")
@pytest.mark.parametrize(
    ("there", "cache", "told"),
    [
        (1.1, 1.1, "begun"),
        (0.9, 9, str(_UNPACKED)),
        (1.002, 9, str(_UNPACKED)),
        (9, 0.9, "cache"),
    ],
)
@pytest.mark.parametrize(("mapped", "ending"), [(True, ".img.xz"), (False, ".img")])
def test_an_image_is_not_called_broken_where_it_cannot_be_unpacked(
    tmp_path: Path,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    there: float,
    cache: float,
    told: str,
    mapped: bool,
    ending: str,
) -> None:
    file = write_image(tmp_path, ending, mapped=mapped)
    free = {home: cache * _GB, _UNPACKED: there * _GB}
    said = ended(monkeypatch, free, "check", file)
    assert said == (str(cache_dir()) if told == "cache" else told)
