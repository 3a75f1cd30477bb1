"""`lucie image build` and `add-model`: what is refused before any work, and what is left then."""

from __future__ import annotations

import re
import shutil
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner, Result

from edge.bundle import Bundle
from edge.errors import InterruptedByUserError, LucieError
from edge.manifest import Kind, Manifest
from images.commands import image
from images.commands.place import place
from images.commands.words import PACKAGES
from tests.edge.gguf_files import tiny
from tests.images.published import image_bundle

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _room(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk with room, whatever this computer's has."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1 << 40))


def lucie_image(*arguments: str | Path) -> Result:
    return CliRunner().invoke(image, [str(each) for each in arguments])


def refused(*arguments: str | Path) -> LucieError:
    ended = lucie_image(*arguments)
    assert isinstance(ended.exception, LucieError), ended.output
    assert ended.stderr == "", "nothing has begun"
    return ended.exception


def bundle(folder: Path, kind: Kind, file: str = "toy.gguf") -> Path:
    content = tiny("llama").write(folder / "content")
    manifest = Manifest(kind=kind, name="toy", licence="MIT", provenance="declared")
    return Bundle.write(folder / "toy", manifest, {file: content}).path


@pytest.mark.parametrize(
    ("kind", "file"),
    [("image", "lucie.img.xz"), ("image", "toy.gguf"), ("importance", "figures.gguf"),
     ("logits", "0.bin"), ("model", "model.safetensors"), ("onnx", "toy.onnx")],
)  # fmt: skip
@pytest.mark.parametrize("command", ["build", "add-model"])
def test_what_is_no_model_is_refused_at_once(
    command: str, kind: Kind, file: str, tmp_path: Path
) -> None:
    folder, out = bundle(tmp_path, kind, file), tmp_path / "a" / "out"
    words = ["--model", folder] if command == "build" else [tmp_path / "card.img.xz", folder]
    error = refused(command, *words, "--output", out)
    assert error.code == "build.no-model"
    assert error.facts == {"path": str(folder), "kind": kind}
    assert not out.parent.exists()


@pytest.mark.parametrize(
    ("name", "code"), [("there", "bundle.exists"), ("A name", "workshop.name")]
)
@pytest.mark.parametrize("command", ["build", "add-model"])
def test_a_place_that_is_none_is_refused_at_once(
    command: str, name: str, code: str, tmp_path: Path
) -> None:
    (tmp_path / "there").mkdir()
    folder = bundle(tmp_path, "gguf")
    words = ["--model", folder] if command == "build" else [tmp_path / "card.img.xz", folder]
    assert refused(command, *words, "--output", tmp_path / name).code == code


@pytest.mark.parametrize("command", ["build", "add-model"])
def test_two_do_not_make_the_same(command: str, tmp_path: Path) -> None:
    folder, out = bundle(tmp_path, "gguf"), tmp_path / "out"
    words = ["--model", folder] if command == "build" else [tmp_path / "card.img.xz", folder]
    with place(out):
        assert refused(command, *words, "--output", out).code == "build.busy"


@pytest.mark.parametrize(
    ("command", "function", "told"),
    [("build", "images.building.build.build", "Finished parts are kept"),
     ("add-model", "images.building.adding.add_model", "nothing was kept")],
)  # fmt: skip
def test_who_interrupts_finds_no_empty_folder(
    command: str, function: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_order: object, out: Path, *_: object) -> None:
        assert out.parent.is_dir()
        raise KeyboardInterrupt

    monkeypatch.setattr(function, interrupted)
    folder = bundle(tmp_path, "gguf")
    words = ["--model", folder] if command == "build" else [tmp_path / "card.img.xz", folder]
    ended = lucie_image(command, *words, "--output", tmp_path / "a" / "out")
    assert isinstance(ended.exception, InterruptedByUserError)
    assert told in ended.stderr
    assert not (tmp_path / "a").exists()


def test_what_is_built_is_told_with_what_flashes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = image_bundle(tmp_path / "a class/pi3", tmp_path / "work")
    monkeypatch.setattr("images.building.build.build", lambda *_: made)
    monkeypatch.setattr("sys.argv", ["/opt/env/bin/lucie"])
    ended = lucie_image("build", "--model", bundle(tmp_path, "gguf"), "--output", tmp_path / "out")
    image = made.path / "lucie.img.xz"
    assert f"sudo /opt/env/bin/lucie image flash '{image}' /dev/sdX\n" in ended.stderr
    assert f"{image}  " in ended.stdout


# --- what has to be installed


def packages(text: str) -> list[set[str]]:
    """Of every `sudo apt install`."""
    return [set(names.split()) for names in re.findall(r"sudo apt install ([a-z -]*[a-z])", text)]


@pytest.mark.parametrize("language", ["en", "fr"])
def test_help_and_readers_are_told_the_same_packages(
    language: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LUCIE_LANG", language)
    texts = tomllib.loads((ROOT / "images/locale/command.toml").read_text(encoding="utf-8"))
    needed = set(PACKAGES.split())
    assert packages(texts["build-help"][language].format(packages=PACKAGES)) == [needed]
    for name in ("README.md", "images/README.md"):
        line = [
            each
            for each in (ROOT / name).read_text(encoding="utf-8").splitlines()
            if "lucie-edge[images]" in each
        ]
        assert packages("\n".join(line)) == [needed], name


def test_help_shows_them() -> None:
    assert PACKAGES in " ".join(lucie_image("build", "--help").stdout.split())


def test_what_is_missing_is_one_of_them() -> None:
    for name in ("build", "update"):
        text = (ROOT / f"images/locale/{name}.toml").read_text(encoding="utf-8")
        assert packages(text), name
        assert set().union(*packages(text)) <= set(PACKAGES.split()), name
