"""What is chosen of a stick is copied, checked and used."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import pytest

from edge.bundle import Bundle
from edge.errors import StoreError
from images.onboard import news, offers, stick, store, taking
from tests.images.stick.conftest import (
    bundle,
    choose,
    spoil_hash,
    told,
)


def test_a_model_can_be_taken_while_the_next_are_read(
    board: Path, plugged: Path, served: list[str]
) -> None:
    bundle(plugged / "a/toy")
    bundle(plugged / "b/other", "other")
    lines = stick.models("sdb1", plugged)
    assert "model toy" in next(lines)
    with taking.alone() as nobody_else:
        assert nobody_else, "who chooses it would wait for all the others"
    choose(board)
    taking.take()
    assert served == ["toy"]
    assert "model other" in next(lines)


def test_a_copy_that_is_being_made_is_not_cleared(board: Path, plugged: Path) -> None:
    draft = board / "data/data/models/.tmp-toy-1234"
    draft.mkdir()
    with taking.alone(wait=True):
        assert list(stick.models("sdb1", plugged)) == []
    assert draft.exists()


def test_what_is_chosen_is_copied_and_used(board: Path, plugged: Path, served: list[str]) -> None:
    made = bundle(plugged / "toy")
    (board / "data/data/models/.tmp-old-1234").mkdir()
    stick.look("sdb1")
    assert list((board / "data/data/models").iterdir()) == [], "what was cut off is cleared"
    choose(board)
    taking.take()
    copied = Bundle.open(board / "data/data/models/toy", verify=True)
    assert copied.manifest == made.manifest
    assert [each.name for each in (board / "data/data/models").iterdir()] == ["toy"]
    assert served == ["toy"]
    assert (board / "data/model").read_text() == "LUCIE_MODEL=toy\n"
    assert told(board, "stick").startswith("toy answers from now on.")
    assert not (board / "choice/offer").exists(), "else it would be taken again and again"


@pytest.mark.parametrize("name", ["useless", "endless"])
def test_a_model_that_does_not_start_is_not_kept_in_use(
    name: str, board: Path, plugged: Path, served: list[str]
) -> None:
    bundle(plugged / name, name)
    stick.look("sdb1")
    choose(board, f"sdb1-{name}")
    taking.take()
    assert served == [name, "before"]
    assert (board / "data/model").read_text() == "LUCIE_MODEL=before\n"
    assert f"does not start with {name}" in told(board, "stick")


def test_a_model_is_kept_in_use_only_when_the_server_has_started_with_it(
    board: Path, plugged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a board whose plug is pulled, since nothing comes of it, starts with it again."""

    def run(*_: str, **__: object) -> object:
        assert (board / "data/model").read_text() == "LUCIE_MODEL=before\n"
        assert (board / "run/trying").read_text() == "LUCIE_MODEL=toy\n"
        return type("Ended", (), {"returncode": 0})

    monkeypatch.setattr(taking, "run", run)
    bundle(plugged / "toy")
    stick.look("sdb1")
    choose(board)
    taking.take()
    assert (board / "data/model").read_text() == "LUCIE_MODEL=toy\n"
    assert not (board / "run/trying").exists()


def test_a_choice_that_cannot_be_written_leaves_the_model_before(
    board: Path, plugged: Path, served: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(taking, "use", full)
    bundle(plugged / "toy")
    stick.look("sdb1")
    choose(board)
    taking.take()
    assert served == ["toy", "before"]
    assert told(board, "stick") == "toy was not taken: No space left on device"


@pytest.mark.parametrize("result", ["timeout", "oom-kill", "signal", "exit-code"])
def test_a_copy_that_is_cut_off_is_one_line(
    result: str, board: Path, served: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERVICE_RESULT", result)
    news.tell("stick", "being copied")
    stick.main(["ended"])
    assert told(board, "stick").startswith("The model of the stick could not be used: ")
    assert served == []
    (board / "run/trying").write_text("LUCIE_MODEL=endless\n")
    stick.main(["ended"])
    assert served == ["before"]


def test_a_copy_that_has_come_to_its_end_has_told_so(
    board: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERVICE_RESULT", "success")
    news.tell("stick", "toy answers")
    stick.main(["ended"])
    assert told(board, "stick") == "toy answers"


def test_a_card_that_has_become_full_is_told_before_anything_is_copied(
    board: Path, plugged: Path, served: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle(plugged / "toy")
    stick.look("sdb1")
    choose(board)
    monkeypatch.setattr("images.onboard.store._SPARE", 1 << 60)
    taking.take()
    assert told(board, "stick").startswith("The model toy of the stick needs ")
    assert told(board, "stick").endswith(", and 0 kB are free.")
    assert list((board / "data/data/models").iterdir()) == served == []


def test_a_model_of_a_later_format_is_not_replaced(board: Path, plugged: Path) -> None:
    bundle(plugged / "toy")
    place = board / "data/data/models/toy"
    bundle(place)
    (place / "manifest.json").write_text('{"format": 99}')
    stick.look("sdb1")
    assert "another one of that name" in told(board)
    with store.shelf() as shelf, pytest.raises(StoreError):
        shelf.take(Bundle.open(plugged / "toy", verify=False))
    assert (place / "toy.gguf").exists()


def test_another_model_of_the_same_name_is_not_taken_for_it(
    board: Path, plugged: Path, served: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both were offered, as the card had none of that name then."""
    first = bundle(plugged / "toy")
    stick.look("sdb1")
    other = plugged.with_name("other")
    bundle(other / "toy")
    content = (other / "toy/toy.gguf").read_bytes() + bytes(32)
    (other / "toy/toy.gguf").write_bytes(content)
    manifest = json.loads((other / "toy/manifest.json").read_text())
    manifest["files"]["toy.gguf"] = {"sha256": sha256(content).hexdigest(), "size": len(content)}
    (other / "toy/manifest.json").write_text(json.dumps(manifest))

    @contextmanager
    def mounted(device: str) -> Iterator[Path]:
        yield {"sdb1": plugged, "sdc1": other}[device]

    for module in (stick, taking):
        monkeypatch.setattr(module, "mounted", mounted)
    stick.look("sdc1")
    for device in ("sdb1", "sdc1"):
        choose(board, f"{device}-toy")
        taking.take()
    assert told(board, "stick").startswith("The stick has a model toy, and the card has another")
    assert served == ["toy"], "the first"
    assert Bundle.open(board / "data/data/models/toy", verify=True).manifest == first.manifest


def test_a_stick_that_has_become_another_one_is_not_taken(
    board: Path, plugged: Path, served: list[str]
) -> None:
    bundle(plugged / "toy")
    stick.look("sdb1")
    manifest = plugged / "toy/manifest.json"
    manifest.write_text(manifest.read_text().replace("declared", "unknown"))
    choose(board)
    taking.take()
    assert "another one than was offered" in told(board, "stick")
    assert served == []


def test_what_was_changed_after_it_was_offered_is_not_taken(
    board: Path, plugged: Path, served: list[str]
) -> None:
    bundle(plugged / "toy")
    stick.look("sdb1")
    spoil_hash(plugged / "toy")
    choose(board)
    taking.take()
    assert told(board, "stick").startswith("toy was not taken: ")
    assert list((board / "data/data/models").iterdir()) == []
    assert served == []


@pytest.mark.parametrize(
    "name", ["", "sdb1-other", "../offers/sdb1-toy", "/etc/passwd", "sdb1-toy\x00", "x" * 10_000]
)
def test_only_what_was_offered_is_taken(
    name: str, board: Path, plugged: Path, served: list[str]
) -> None:
    bundle(plugged / "toy")
    stick.look("sdb1")
    choose(board, name)
    taking.take()
    assert list((board / "data/data/models").iterdir()) == served == []
    assert not (board / "choice/offer").exists()


def test_that_an_offer_has_gone_while_the_list_was_open_is_told(
    board: Path, plugged: Path, served: list[str]
) -> None:
    bundle(plugged / "toy")
    stick.look("sdb1")
    (board / "sys/sdb1").rmdir()
    stick.gone("sdb1")
    choose(board)
    taking.take()
    assert told(board, "stick").startswith("What was chosen is not offered any more: ")
    assert served == []


def test_a_choice_that_is_no_file_is_cleared(board: Path) -> None:
    choice = board / "choice/offer"
    offers.make(offers.Offer(text="x", title="x", name="toy", device="sdb1", folder="toy",
                             sha256="0" * 64))  # fmt: skip
    (board / "secret").write_text("sdb1-toy")

    def full() -> None:
        (choice / "a/b").mkdir(parents=True)
        (choice / "a/file").touch()
        (choice / "link").symlink_to(board / "data")

    for make in (
        lambda: choice.symlink_to(board / "secret"), lambda: os.mkfifo(choice), choice.mkdir,
        lambda: choice.symlink_to(board / "data"), full,
    ):  # fmt: skip
        make()
        assert offers.chosen() is None
        assert not choice.is_symlink()
        assert not choice.exists()
    assert (board / "secret").exists()
    assert (board / "data/model").exists()
