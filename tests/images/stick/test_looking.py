"""What is found on a stick, and offered: nothing of it is trusted."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

from images.onboard import bundles, stick
from tests.edge.gguf_files import tiny
from tests.images.stick.conftest import (
    bundle,
    spoil_hash,
    told,
)


def test_a_model_is_offered(board: Path, plugged: Path) -> None:
    made = bundle(plugged / "folder/toy")
    stick.look("sdb1")
    assert told(board).startswith("The stick has the model toy (")
    assert told(board).endswith("fr, en). F4: use it.")
    [file] = (board / "run/offers").iterdir()
    assert file.name == "sdb1-toy"
    offer = json.loads(file.read_text())
    assert offer["text"] in told(board)
    assert (offer["folder"], offer["sha256"]) == ("folder/toy", made.sha256)
    assert file.stat().st_mode & 0o777 == 0o644, "the chat reads it"
    (board / "sys/sdb1").rmdir()
    stick.gone("sdb1")
    assert told(board) == ""
    assert list((board / "run/offers").iterdir()) == []


def test_a_stick_without_models_is_told_of(board: Path, plugged: Path) -> None:
    (plugged / "photos").mkdir()
    stick.look("sdb1")
    assert told(board).startswith("There is no model on the stick.")


def test_a_plain_file_is_not_offered(board: Path, plugged: Path) -> None:
    tiny("llama").write(plugged / "toy.gguf")
    stick.look("sdb1")
    assert "toy.gguf on the stick is a plain file" in told(board)
    assert list((board / "run/offers").iterdir()) == []


def test_a_file_is_called_by_its_name(board: Path, plugged: Path) -> None:
    (plugged / "modèle.gguf").touch()
    (plugged / "\x1b[2Ja.gguf").touch()
    stick.look("sdb1")
    assert "modèle.gguf on the stick is a plain file" in told(board)
    assert "[2J" not in told(board), "what a terminal obeys"


def test_the_disk_that_the_board_has_started_from_is_no_stick(board: Path, plugged: Path) -> None:
    for part in ("sda1", "sda4"):
        (board / f"sys/sda/{part}").mkdir(parents=True)
        (board / f"sys/sda/{part}/partition").touch()
        (board / f"sys/{part}").symlink_to(f"sda/{part}")
    (board / "mounts").write_text("/dev/sda4 /data ext4 rw 0 0\n")
    stick.look("sda1")
    assert told(board, "stick-sda1") == ""


def spoil_link(place: Path) -> None:
    shutil.move(place / "toy.gguf", place.parent.parent / "away")
    (place / "toy.gguf").symlink_to(place.parent.parent / "away")


def spoil_manifest_link(place: Path) -> None:
    shutil.move(place / "manifest.json", place.parent.parent / "away")
    (place / "manifest.json").symlink_to(place.parent.parent / "away")


def spoil_manifest(place: Path) -> None:
    (place / "manifest.json").write_text('{"format": 1, "kind": "gguf", "name": "../../etc"}')


def spoil_huge_manifest(place: Path) -> None:
    os.truncate(place / "manifest.json", 1 << 40)


def spoil_pipe(place: Path) -> None:
    (place / "manifest.json").unlink()
    os.mkfifo(place / "manifest.json")


def spoil_files(place: Path) -> None:
    for number in range(100):
        (place / f"{number}").mkdir()


def spoil_weights(place: Path) -> None:
    content = b"GGUF" + bytes(100)
    (place / "toy.gguf").write_bytes(content)
    manifest = json.loads((place / "manifest.json").read_text())
    manifest["files"]["toy.gguf"] = {"sha256": sha256(content).hexdigest(), "size": 104}
    (place / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [(spoil_hash, "not offered: toy.gguf in bad is not what it was (its SHA-256 differs)"),
     (spoil_link, "not offered: toy.gguf in bad is a link or a device"),
     (spoil_manifest_link, "not offered: manifest.json in bad is a link or a device"),
     (spoil_manifest, "not offered: The manifest of bad is not valid: name:"),
     (spoil_huge_manifest, "larger than any model’s folder"),
     (spoil_pipe, "not offered: manifest.json in bad is a link or a device"),
     (spoil_files, "larger than any model’s folder"),
     (spoil_weights, "not offered: bad/toy.gguf has version 0 of the GGUF format")],
    ids=lambda each: getattr(each, "__name__", ""),
)  # fmt: skip
def test_what_is_damaged_or_hostile_is_told_and_not_offered(
    spoil: Callable[[Path], None], reason: str, board: Path, plugged: Path
) -> None:
    bundle(plugged / "bad")
    spoil(plugged / "bad")
    bundle(plugged / "toy")
    stick.look("sdb1")
    first, second = told(board).splitlines()
    assert first.startswith("bad on the stick is ")
    assert reason in first
    assert second.startswith("The stick has the model toy")
    assert [each.name for each in (board / "run/offers").iterdir()] == ["sdb1-toy"]


def test_of_what_a_stick_has_a_part_is_looked_at(plugged: Path) -> None:
    for number in range(20):
        (plugged / f"n{number:02}").mkdir()
        (plugged / f"n{number:02}/manifest.json").touch()
    deep = plugged / "a/b/c"
    deep.mkdir(parents=True)
    (deep / "manifest.json").touch()
    (plugged / ".hidden").mkdir()
    (plugged / ".hidden/manifest.json").touch()
    (plugged / "odd\n").mkdir()
    (plugged / "odd\n/manifest.json").touch()
    (plugged / "away").symlink_to(plugged / "n00")
    assert [each.name for each in bundles.candidates(plugged)] == [f"n{n:02}" for n in range(8)]


def test_a_model_among_thousands_of_photos_is_found(
    plugged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the order that the folder has, which is nobody's."""
    monkeypatch.setattr(bundles, "_ENTRIES", 1)
    for number in range(100):
        (plugged / f"photo{number}.jpg").touch()
    (plugged / "toy").mkdir()
    (plugged / "toy/manifest.json").touch()
    (plugged / "toy.gguf").touch()
    assert [each.name for each in bundles.candidates(plugged)] == ["toy"]
    assert bundles.plain_files(plugged) == ["toy.gguf"]


@pytest.mark.parametrize("kind", ["onnx", "corpus", "image"])
def test_what_a_board_does_not_run_is_not_offered(kind: str, board: Path, plugged: Path) -> None:
    bundle(plugged / "toy", kind=kind)
    stick.look("sdb1")
    assert "is no model that a board runs" in told(board)


def test_a_model_too_large_for_the_memory_or_the_card_is_not_offered(
    board: Path, plugged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle(plugged / "toy")
    monkeypatch.setattr("images.onboard.bundles.SYSTEM", 1 << 60)
    stick.look("sdb1")
    assert told(board).startswith("toy on the stick is not offered: ")
    monkeypatch.undo()


def test_a_card_without_room_is_told(
    board: Path, plugged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle(plugged / "toy")
    monkeypatch.setattr("images.onboard.store._SPARE", 1 << 60)
    stick.look("sdb1")
    assert told(board).startswith("The model toy of the stick needs ")
    assert list((board / "run/offers").iterdir()) == []


def test_a_model_that_the_card_has_is_offered_unless_it_is_in_use_or_another(
    board: Path, plugged: Path
) -> None:
    bundle(plugged / "toy")
    shutil.copytree(plugged / "toy", board / "data/data/models/toy")
    stick.look("sdb1")
    assert "F4" in told(board)
    (board / "data/model").write_text("LUCIE_MODEL=toy\n")
    stick.look("sdb1")
    assert "in use already" in told(board)
    manifest = board / "data/data/models/toy/manifest.json"
    other = json.loads(manifest.read_text())
    other["files"]["toy.gguf"]["sha256"] = "0" * 64
    manifest.write_text(json.dumps(other))
    stick.look("sdb1")
    assert "another one of that name" in told(board)
    assert list((board / "run/offers").iterdir()) == []
