"""Models of the card: used, removed, stood in for; and where they are."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from pathlib import Path

import pytest

from edge.bundle import Bundle
from images.onboard import stick, store, taking
from tests.images.stick.conftest import (
    bundle,
    choose,
    damage_content,
    damage_manifest,
    of_card,
    offered,
    told,
)


def test_another_model_of_the_card_is_offered_and_taken_without_a_stick(
    board: Path, served: list[str]
) -> None:
    for name in ("before", "toy"):
        bundle(board / "data/data/models" / name, name)
    stick.main(["card"])
    assert offered(board) == of_card("toy")
    text = json.loads((board / "run/offers/card-toy").read_text())["text"]
    assert text.startswith("The card has the model toy (")
    choose(board, "card-toy")
    taking.take()
    assert told(board, "stick") == "toy answers from now on."
    assert served == ["toy"]
    assert offered(board) == of_card("before")


def test_a_model_that_a_stick_has_brought_leaves_the_one_before_to_be_chosen(
    board: Path, plugged: Path, served: list[str]
) -> None:
    bundle(board / "data/data/models/before", "before")
    bundle(plugged / "toy")
    stick.look("sdb1")
    choose(board)
    taking.take()
    (board / "sys/sdb1").rmdir()
    stick.gone("sdb1")
    assert offered(board) == of_card("before")
    choose(board, "card-before")
    taking.take()
    assert served == ["toy", "before"]


def test_a_model_of_the_card_that_has_lost_its_content_is_not_used(
    board: Path, served: list[str]
) -> None:
    for name in ("before", "toy"):
        bundle(board / "data/data/models" / name, name)
    taking.card()
    damage_content(board / "data/data/models/toy")
    choose(board, "card-toy")
    taking.take()
    assert told(board, "stick").startswith("The card’s own toy is damaged: plug in a stick")
    assert served == []


@pytest.mark.usefixtures("served")
def test_what_of_the_card_does_not_run_is_not_offered(
    board: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = board / "data/data/models"
    bundle(models / "before", "before")
    bundle(models / "graph", "graph", kind="onnx")
    bundle(models / "broken", "broken")
    damage_manifest(models / "broken")
    taking.card()
    assert offered(board) == ["trash-broken", "trash-graph"], "which have their room for nothing"
    bundle(models / "toy")
    monkeypatch.setattr("images.onboard.bundles.SYSTEM", 1 << 60)
    taking.card()
    assert "card-toy" not in offered(board), "it has no room in the memory"


@pytest.mark.parametrize("spoil", [None, "manifest"])
def test_a_model_that_is_not_in_use_is_removed_when_that_is_chosen(
    spoil: str | None, board: Path, served: list[str]
) -> None:
    models = board / "data/data/models"
    for name in ("before", "toy"):
        bundle(models / name, name)
    if spoil:
        damage_manifest(models / "toy")
    taking.card()
    offer = json.loads((board / "run/offers/trash-toy").read_text())
    assert re.fullmatch(r"Remove the model toy from the card \(\d+ kB\)\.", offer["text"])
    assert offer["ask"].startswith("Remove toy? ")
    choose(board, "trash-toy")
    taking.take()
    assert re.fullmatch(r"toy is not on the card any more: .+ are free\.", told(board, "stick"))
    assert [each.name for each in models.iterdir()] == ["before"]
    assert offered(board) == []
    assert served == []


def test_a_model_that_has_been_taken_into_use_meanwhile_is_not_removed(
    board: Path, served: list[str]
) -> None:
    for name in ("before", "toy"):
        bundle(board / "data/data/models" / name, name)
    taking.card()
    removal = (board / "run/offers/trash-toy").read_bytes()
    choose(board, "card-toy")
    taking.take()
    assert served == ["toy"]
    (board / "run/offers/trash-toy").write_bytes(removal)
    choose(board, "trash-toy")
    taking.take()
    assert told(board, "stick") == "toy is in use now, and stays."
    assert offered(board) == of_card("before")
    assert Bundle.open(board / "data/data/models/toy", verify=True)


def test_a_removal_that_fails_is_one_line_and_one_that_is_cut_off_is_made_up_for(
    board: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = board / "data/data/models"
    for name in ("before", "toy"):
        bundle(models / name, name)
    taking.card()

    def failing(place: Path) -> None:
        (place / "toy.gguf").unlink()
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(store, "remove", failing)
        choose(board, "trash-toy")
        taking.take()
    assert told(board, "stick") == "toy was not removed: Input/output error"
    taking.card()
    assert offered(board) == []
    assert [each.name for each in models.iterdir()] == ["before"]


def test_a_full_card_says_what_may_be_removed(
    board: Path, plugged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle(plugged / "large", "large")
    for name in ("before", "toy"):
        bundle(board / "data/data/models" / name, name)
    monkeypatch.setattr(store, "_SPARE", 1 << 60)
    stick.look("sdb1")
    assert "0 kB are free. F4: remove one of the card’s; then plug the stick in" in told(board)
    shutil.rmtree(board / "data/data/models/toy")
    stick.look("sdb1")
    assert told(board).endswith("and 0 kB are free.")


def test_where_the_model_in_use_is_gone_another_stands_in(board: Path, served: list[str]) -> None:
    """The plug was pulled while a damaged one made room for its copy."""
    for name in ("endless", "toy"):
        bundle(board / "data/data/models" / name, name)
    (board / "data/data/models/.tmp-before-1234").mkdir()
    taking.card()
    assert served == ["endless", "before", "toy"], "one that starts"
    assert (board / "data/model").read_text() == "LUCIE_MODEL=toy\n"
    line = "The model before is not on the card any more, and toy answers in its place."
    assert told(board, "stick").startswith(line)
    assert offered(board) == of_card("endless")


def test_that_no_model_is_left_is_told_at_each_start(board: Path, served: list[str]) -> None:
    taking.card()
    assert told(board, "stick").startswith("The card’s own before was damaged, and is gone: ")
    assert served == []


def test_a_link_of_the_server_leads_root_nowhere(board: Path) -> None:
    shutil.move(board / "data/data", board / "moved")
    (board / "data/data").symlink_to(board / "moved")
    with pytest.raises(NotADirectoryError), store.shelf():
        pass


def test_what_is_used_is_told_by_the_last_line(board: Path) -> None:
    store.use("toy")
    assert store.in_use() == "toy"
    (board / "data/model").write_text("LUCIE_MODEL=a\nLUCIE_MODEL=b\n")
    assert store.in_use() == "b"
    (board / "data/model").unlink()
    assert store.in_use() == ""


@pytest.mark.parametrize("name", ["../sda", "sda1/..", "", "sda1;x", "-t"])
def test_a_device_has_a_name(name: str) -> None:
    with pytest.raises(ValueError, match=r"\['.*'\]"):
        stick.main(["look", name])
