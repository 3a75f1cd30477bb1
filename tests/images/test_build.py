"""The steps from a board and a model to a bundle, but for those that take minutes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from edge.store import Model
from images.boards import boards
from images.building.build import Bench, Order, _choose, _root, imager_manifest, tags
from images.building.room import Room
from images.onboard.settings_file import read
from tests.edge.gguf_files import U32, Value, tiny

KEY = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl "é" a\\b'


# By hand: the largest models of the boards have 16, 8, 1 and 0.5 GB.
@pytest.mark.parametrize(
    ("gigabytes", "expected"),
    [(0, ["pi5-64bit", "pi4-64bit", "pi3-64bit"]), (3, ["pi5-64bit", "pi4-64bit"]),
     (9, ["pi5-64bit"])],
)  # fmt: skip
def test_imager_offers_an_image_for_every_board_that_has_room_for_its_model(
    gigabytes: int, expected: list[str], tmp_path: Path
) -> None:
    model, wide = tiny("llama", n_layer=64), (gigabytes << 30) // (64 * 3 * 64 * 4)
    if wide:  # three tensors of each layer have most of the weights, in F32
        model.pairs["llama.feed_forward_length"] = Value(U32, wide)
        for name, tensor in model.tensors.items():
            if ".ffn_" in name and 96 in tensor.shape:
                tensor.shape = tuple(wide if size == 96 else size for size in tensor.shape)
    path = model.write(tmp_path / "model.gguf")
    assert tags(Model("model", path, None)) == expected


def test_what_imager_is_started_with_lies_beside_the_bundle(tmp_path: Path) -> None:
    assert imager_manifest(tmp_path / "v1.2") == tmp_path / "v1.2.rpi-imager-manifest"


def test_a_system_is_made_anew_by_other_tools_and_of_another_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_of: list[object] = []
    monkeypatch.setattr("images.building.build.kept", lambda _, of, __: made_of.append(of))
    monkeypatch.setattr("images.building.program.lay_out", lambda target, *_: target.mkdir())
    for number, (used, day) in enumerate((("a", "1"), ("a", "1"), ("b", "1"), ("a", "2"))):
        monkeypatch.setattr("images.building.build.EPOCH", day)
        folder = tmp_path / str(number)
        bench = Bench(Room(tmp_path / f"tools-{used}/root"), folder, folder, str)
        _root(bench, tmp_path / "packages/packages.tar", tmp_path / "engine", tmp_path)
    first, again, *others = made_of
    assert first == again
    assert first not in others
    assert others[0] != others[1]


@pytest.mark.parametrize(
    ("key", "keys"), [(None, ()), (KEY, (KEY,))], ids=["nobody may sign", "somebody may"]
)
def test_the_card_says_what_was_chosen(
    key: str | None, keys: tuple[str, ...], tmp_path: Path
) -> None:
    file = tmp_path / "lucie.toml"
    shutil.copy("images/board/boot/lucie.toml", file)
    _choose(file, Order(boards()["pi4"], Model("model", tmp_path, None), "en", key))
    found, complaints, _ = read([file])
    assert complaints == []
    assert found.locale.language == "en"
    assert found.update.keys == keys
