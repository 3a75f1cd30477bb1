"""Models of the card that are damaged, and those of a stick that take their place."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edge.bundle import Bundle
from images.onboard import stick, store, taking
from tests.images.stick.conftest import (
    bundle,
    choose,
    damage_content,
    damage_manifest,
    told,
)


def damage_size(place: Path) -> None:
    os.truncate(place / "toy.gguf", 10)


def damage_folder(place: Path) -> None:
    shutil.rmtree(place)
    place.mkdir()


def damage_link(place: Path) -> None:
    shutil.move(place, place.parents[4] / "kept")
    place.symlink_to(place.parents[4] / "kept")
    (place / "manifest.json").write_text("{}")


@pytest.mark.parametrize(
    "damage", [damage_manifest, damage_size, damage_folder, damage_link], ids=lambda f: f.__name__
)
def test_a_damaged_model_of_the_card_is_replaced(
    damage: Callable[[Path], None], board: Path, plugged: Path, served: list[str]
) -> None:
    made = bundle(plugged / "toy")
    place = board / "data/data/models/toy"
    bundle(place)
    damage(place)
    stick.look("sdb1")
    choose(board)
    assert place.exists(), "looking replaces nothing"
    taking.take()
    assert Bundle.open(place, verify=True).manifest == made.manifest
    assert served == ["toy"]
    kept = board.parent / "kept"
    assert not kept.exists() or (kept / "toy.gguf").exists(), "a link is not followed"


@pytest.mark.parametrize("in_use", ["before", "toy"])
def test_a_model_whose_content_the_card_has_lost_is_replaced(
    in_use: str, board: Path, plugged: Path, served: list[str]
) -> None:
    """Its files have their sizes: only reading tells."""
    made = bundle(plugged / "toy")
    place = board / "data/data/models/toy"
    bundle(place)
    damage_content(place)
    (board / "data/model").write_text(f"LUCIE_MODEL={in_use}\n")
    stick.look("sdb1")
    choose(board)
    taking.take()
    assert "answers from now on" in told(board, "stick")
    assert Bundle.open(place, verify=True).manifest == made.manifest
    assert served == ["toy"]


@pytest.fixture
def lost(board: Path, plugged: Path) -> Path:
    """The model in use, whose content the card has lost, while the same of a stick is chosen."""
    bundle(plugged / "toy")
    place = board / "data/data/models/toy"
    bundle(place)
    damage_content(place)
    (board / "data/model").write_text("LUCIE_MODEL=toy\n")
    stick.look("sdb1")
    choose(board)
    return place


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> None:
    """The card has less room than stays free for conversations."""
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(store.shutil, "disk_usage", lambda _: usage)


@pytest.mark.usefixtures("full")
def test_a_full_card_has_the_room_of_what_it_has_lost(
    board: Path, lost: Path, served: list[str]
) -> None:
    taking.take()
    assert "answers from now on" in told(board, "stick")
    assert Bundle.open(lost, verify=True)
    assert served == ["toy"]


@pytest.mark.usefixtures("full")
def test_without_room_what_was_lost_is_not_removed(
    board: Path, lost: Path, served: list[str]
) -> None:
    size = (lost / "toy.gguf").stat().st_size
    for now in (0, size):  # it has no blocks then
        os.truncate(lost / "toy.gguf", now)
    taking.take()
    assert told(board, "stick").startswith("The model toy of the stick needs ")
    assert (lost / "toy.gguf").exists()
    assert served == []


def test_what_was_lost_stays_when_the_stick_is_another_one(
    board: Path, plugged: Path, lost: Path, served: list[str]
) -> None:
    manifest = plugged / "toy/manifest.json"
    manifest.write_text(manifest.read_text().replace("declared", "unknown"))
    taking.take()
    assert told(board, "stick") == "toy was not taken: it is another one than was offered"
    assert (lost / "toy.gguf").exists()
    assert served == []


def test_what_was_lost_stays_when_the_stick_is_not_there_any_more(
    board: Path, lost: Path, served: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is pulled out while the card's own is read, which takes minutes."""

    @contextmanager
    def missing(_: str) -> Iterator[Path]:
        shutil.rmtree(board / "sys/sdb1")
        raise OSError(0, "no such device")
        yield

    whole = store.Shelf.has

    def has(shelf: store.Shelf, name: str) -> bool:
        monkeypatch.setattr(taking, "mounted", missing)
        return whole(shelf, name)

    monkeypatch.setattr(store.Shelf, "has", has)
    taking.take()
    assert told(board, "stick").endswith("and the model is the one before.")
    assert (lost / "toy.gguf").exists()
    assert served == []


@pytest.mark.parametrize(
    ("error", "line"),
    [("pulled", "The stick was pulled out while toy was being copied: nothing of it was kept."),
     ("failed", "toy was not taken: Input/output error")],
)  # fmt: skip
def test_that_the_model_is_gone_is_told(
    error: str, line: str, board: Path, lost: Path, served: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def fail(*_: object) -> None:
        if error == "pulled":
            shutil.rmtree(board / "sys/sdb1")
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("edge.bundle._copy", fail)
    taking.take()
    assert not lost.exists()
    gone = "The card’s own toy was damaged, and is gone: plug the stick in, and choose it again."
    assert told(board, "stick").splitlines() == [line, gone]
    assert served == []


def test_the_room_of_a_damaged_model_is_that_of_the_next(
    board: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("Usage", (), {"free": 1 << 30})
    monkeypatch.setattr(store.shutil, "disk_usage", lambda _: usage)
    place = board / "data/data/models/toy"
    bundle(place)
    with store.shelf() as shelf:
        spare = (1 << 30) - (64 << 20)
        assert shelf.room("toy") == shelf.room("other") == spare, "a whole one stays"
        with (place / "rest").open("wb") as file:  # which makes it a damaged one
            file.write(os.urandom(4 << 20))
            os.fsync(file.fileno())
        assert 4 << 20 <= shelf.room("toy") - spare < 5 << 20
        os.truncate(place / "rest", 1 << 40)
        assert shelf.room("toy") - spare < 5 << 20, "it has no more blocks"
        assert shelf.room("other") == spare
