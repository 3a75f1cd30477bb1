"""Images written on cards that are files, all at once, and read back."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from images.errors import ImageError
from images.flashing import writing
from images.flashing.source import open_image
from images.flashing.writing import Card, write
from tests.images.images import PACKED, SIZE, content, write_image, write_sums

_ROOM = 8 << 20


def card(folder: Path, name: str = "card", size: int = _ROOM) -> Card:
    path = folder / name
    path.write_bytes(b"\xff" * size)
    return Card(path, size)


def flash(image: Path, cards: Sequence[Card]) -> dict[str, list[tuple[int, int | None]]]:
    told: dict[str, list[tuple[int, int | None]]] = {}

    def stage(name: str) -> writing.Progress:
        told[name] = []
        return lambda done, total: told[name].append((done, total))

    write(open_image(image), cards, stage)
    return told


@pytest.mark.parametrize("ending", PACKED)
def test_an_image_is_written_on_several_cards(tmp_path: Path, ending: str) -> None:
    cards = [card(tmp_path, "one"), card(tmp_path, "two")]
    image = write_image(tmp_path, ending)
    write_sums(image)
    told = flash(image, cards)
    for each in cards:
        assert each.error is None
        found = each.path.read_bytes()
        assert found[:SIZE] == content()
        assert found[-1 << 20 :] == bytes(1 << 20), "an old table of partitions is gone"
        assert found[SIZE : -1 << 20] == b"\xff" * (_ROOM - SIZE - (1 << 20)), "left alone"
    assert told["write"][-1][0] <= image.stat().st_size
    assert told["verify"][-1] == (2 * SIZE, 2 * SIZE)


def test_what_it_boots_by_is_written_when_all_else_is_on_the_card(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[int | None] = []
    pwrite, fdatasync = os.pwrite, os.fdatasync

    def put(descriptor: int, data: memoryview, offset: int) -> int:
        done.append(offset)
        return pwrite(descriptor, data, offset)

    def sync(descriptor: int) -> None:
        done.append(None)
        fdatasync(descriptor)

    monkeypatch.setattr(os, "pwrite", put)
    monkeypatch.setattr(os, "fdatasync", sync)
    one = card(tmp_path)
    flash(write_image(tmp_path, ".img"), [one])
    assert one.error is None
    cleared, *_, head = [n for n, offset in enumerate(done) if offset == 0]
    body = [n for n, offset in enumerate(done) if offset is not None and 0 < offset < SIZE]
    assert None in done[cleared : body[0]], "before, no table tells of what is being written"
    assert None in done[body[-1] : head]


@pytest.mark.parametrize("ending", PACKED)
def test_only_what_is_mapped_is_written(tmp_path: Path, ending: str) -> None:
    cards = [card(tmp_path)]
    flash(write_image(tmp_path, ending, mapped=True), cards)
    assert cards[0].error is None
    found, whole = cards[0].path.read_bytes(), content()
    for start, end in ((0, 1 << 20), (3 << 20, (3 << 20) + 3 * 4096)):
        assert found[start:end] == whole[start:end]
    assert found[1 << 20 : 3 << 20] == b"\xff" * (2 << 20), "there is nothing to write here"


def damage(path: Path, at: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)
        file.seek(at)
        file.write(bytes([byte[0] ^ 1]))


@pytest.mark.parametrize("ending", PACKED[1:])
@pytest.mark.parametrize("how", ["cut", "damaged"])
def test_of_a_damaged_image_no_card_boots(tmp_path: Path, ending: str, how: str) -> None:
    image = write_image(tmp_path, ending)
    if how == "cut":
        os.truncate(image, image.stat().st_size * 2 // 3)
    else:
        damage(image, image.stat().st_size - 6)
    cards = [card(tmp_path)]
    with pytest.raises(ImageError, match="is damaged or cut short"):
        flash(image, cards)
    assert cards[0].path.read_bytes()[: 1 << 20] == bytes(1 << 20)


@pytest.mark.parametrize("at", [100, (3 << 20) + 5])
def test_a_range_that_differs_from_its_hash_is_noticed(tmp_path: Path, at: int) -> None:
    image = write_image(tmp_path, ".img", mapped=True)
    damage(image, at)
    cards = [card(tmp_path)]
    with pytest.raises(ImageError, match=r"is damaged or cut short \(sha256"):
        flash(image, cards)
    assert cards[0].path.read_bytes()[: 1 << 20] == bytes(1 << 20)


def test_an_image_shorter_than_its_map_is_noticed(tmp_path: Path) -> None:
    image = write_image(tmp_path, ".img", mapped=True)
    os.truncate(image, 3 << 20)
    with pytest.raises(ImageError, match="is damaged or cut short"):
        flash(image, [card(tmp_path)])


def test_a_list_of_hashes_beside_the_image_is_heeded(tmp_path: Path) -> None:
    image = write_image(tmp_path, ".img")
    write_sums(image)
    damage(image, 2 << 20)
    cards = [card(tmp_path)]
    with pytest.raises(ImageError, match="not the file that SHA256SUMS names"):
        flash(image, cards)
    assert cards[0].path.read_bytes()[: 1 << 20] == bytes(1 << 20)


@pytest.mark.parametrize(
    ("failure", "reason"),
    [(OSError(errno.EIO, "Input/output error"), "Input/output"), (MemoryError(), "MemoryError")],
)
def test_a_card_that_fails_stops_none_of_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: Exception, reason: str
) -> None:
    cards = [card(tmp_path, "worn"), card(tmp_path, "good"), Card(tmp_path / "missing", _ROOM)]
    real = os.pwrite

    def pwrite(fd: int, data: bytes, offset: int) -> int:
        if Path(f"/proc/self/fd/{fd}").readlink() == cards[0].path and offset > 2 << 20:
            raise failure
        return real(fd, data, offset)

    monkeypatch.setattr(writing.os, "pwrite", pwrite)
    flash(write_image(tmp_path, ".img"), cards)
    assert f"takes no more ({reason}" in str(cards[0].error)
    assert cards[1].error is None
    assert "missing" in str(cards[2].error)
    assert cards[1].path.read_bytes()[:SIZE] == content()


@pytest.mark.parametrize("failure", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize(
    ("left", "said"),
    [("card", "less than the image needs|takes no more"), ("reader", "was pulled out"),
     ("nothing", "was pulled out")],
)  # fmt: skip
def test_a_card_that_is_pulled_out_is_not_called_too_small_or_worn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: int, left: str, said: str
) -> None:
    pulled, good = cards = [card(tmp_path, "pulled"), card(tmp_path, "good")]
    real = os.pwrite

    def pwrite(fd: int, data: bytes, offset: int) -> int:
        if Path(f"/proc/self/fd/{fd}").readlink() != pulled.path:
            return real(fd, data, offset)
        if left == "reader":
            os.truncate(fd, 0)
        elif left == "nothing":
            pulled.path.unlink()
        raise OSError(failure, os.strerror(failure))

    monkeypatch.setattr(Card, "_is_block_device", lambda _: True)
    monkeypatch.setattr(writing.os, "pwrite", pwrite)
    flash(write_image(tmp_path, ".img"), cards)
    assert re.search(said, str(pulled.error))
    assert good.error is None


def test_a_card_that_is_pulled_out_while_it_is_read_back_is_not_called_worn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cards = [card(tmp_path)]
    monkeypatch.setattr(Card, "_is_block_device", lambda _: True)
    monkeypatch.setattr(Card, "forget_cache", lambda self: os.truncate(self.path, 0))
    flash(write_image(tmp_path, ".img"), cards)
    assert str(cards[0].error) == f"{cards[0].path} was pulled out. Plug it in and write it again."


@pytest.mark.parametrize("worn", [0, 2 << 20, SIZE - 1])
def test_a_card_that_forgets_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, worn: int
) -> None:
    cards = [card(tmp_path, "worn"), card(tmp_path, "good")]
    real = Card.forget_cache

    def forget(self: Card) -> None:
        if self is cards[0]:
            damage(self.path, worn)
        real(self)

    monkeypatch.setattr(Card, "forget_cache", forget)
    flash(write_image(tmp_path, ".img"), cards)
    assert "gives back other bytes than were written" in str(cards[0].error)
    assert cards[1].error is None


def test_ctrl_c_leaves_a_card_that_does_not_boot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cards = [card(tmp_path)]
    image = open_image(write_image(tmp_path, ".img"))

    def stop(done: int, total: int | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(image, cards, lambda name: stop)
    assert cards[0].path.read_bytes()[: 1 << 20] == bytes(1 << 20)
