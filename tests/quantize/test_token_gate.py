"""An export that reads other tokens than its source is not published."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from edge.checkpoint import Checkpoint
from quantize.errors import QuantizeError
from quantize.gates.sample_texts import texts
from quantize.gates.tokens import TokenReport, compare_tokens
from quantize.ggml.export import export

pytestmark = pytest.mark.model


def report(folder: Path, export: Path, count: int = 10_000) -> TokenReport:
    return compare_tokens(Checkpoint.open(folder), export, list(texts(count)))


def altered(folder: Path, tmp_path: Path, change: object) -> Path:
    """A copy of a model folder with another tokenizer."""
    copy = shutil.copytree(folder, tmp_path / "altered")
    given = json.loads((copy / "tokenizer.json").read_text())
    change(given)  # type: ignore[operator]
    (copy / "tokenizer.json").write_text(json.dumps(given))
    return copy


def test_the_same_tokenizer_passes(tiny_folder: Path, tiny_gguf: Path) -> None:
    found = report(tiny_folder, tiny_gguf)
    assert found.passed
    assert found.texts == 10_000 + 2  # and of each token that was added
    found.require(tiny_gguf)


def test_other_rules_for_words_are_found(
    tiny_folder: Path, tiny_gguf: Path, tmp_path: Path
) -> None:
    def digits_together(given: dict[str, dict[str, list[object]]]) -> None:
        given["pre_tokenizer"]["pretokenizers"].pop(0)

    found = report(altered(tiny_folder, tmp_path, digits_together), tiny_gguf)
    assert not found.passed
    assert any(text.text.strip() for text in found.differences)
    with pytest.raises(QuantizeError, match="not published: its tokenizer differs"):
        found.require(tiny_gguf)


def test_one_lost_merge_is_found(tiny_folder: Path, tiny_gguf: Path, tmp_path: Path) -> None:
    def forget(given: dict[str, dict[str, list[object]]]) -> None:
        given["model"]["merges"].pop(200)

    assert not report(altered(tiny_folder, tmp_path, forget), tiny_gguf).passed


def test_one_exchanged_token_is_found(tiny_folder: Path, tiny_gguf: Path, tmp_path: Path) -> None:
    def exchange(given: dict[str, dict[str, dict[str, int]]]) -> None:
        vocab = given["model"]["vocab"]
        vocab["Ġ"], vocab["a"] = vocab["a"], vocab["Ġ"]

    found = report(altered(tiny_folder, tmp_path, exchange), tiny_gguf)
    assert found.same_text < found.texts


def added(**flags: object) -> dict[str, object]:
    """An entry of `added_tokens`."""
    none = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)
    return {"id": 1020, "content": "<tool>", **none, **flags}


@pytest.mark.parametrize("flag", ["single_word", "lstrip", "rstrip"])
def test_what_gguf_does_not_say_of_an_added_token_is_found(
    tiny_folder: Path, tmp_path: Path, flag: str
) -> None:
    for value in (False, True):
        place = tmp_path / str(value)
        place.mkdir()

        def add(given: dict[str, list[object]], value: bool = value) -> None:
            given["added_tokens"].append(added(**{flag: value}))

        folder = altered(tiny_folder, place, add)
        export(Checkpoint.open(folder), place / "model.gguf", "F32")
        found = report(folder, place / "model.gguf", 200)
        assert found.passed is not value
        assert found.same_ids == found.texts - value


def test_a_control_token_that_the_source_shows_is_none_of_the_text(
    tiny_folder: Path, tmp_path: Path
) -> None:
    def show(given: dict[str, list[dict[str, object]]]) -> None:
        given["added_tokens"][0]["special"] = False

    folder = altered(tiny_folder, tmp_path, show)
    export(Checkpoint.open(folder), tmp_path / "model.gguf", "F32")
    assert report(folder, tmp_path / "model.gguf", 200).passed


def test_another_token_before_a_text_is_found(
    tiny_folder: Path, tiny_gguf: Path, tmp_path: Path
) -> None:
    def begin(given: dict[str, object]) -> None:
        part = {"SpecialToken": {"id": "<|im_start|>", "type_id": 0}}
        whole = [part, {"Sequence": {"id": "A", "type_id": 0}}]
        named = {"id": "<|im_start|>", "ids": [0], "tokens": ["<|im_start|>"]}
        given["post_processor"] = {
            "type": "TemplateProcessing", "single": whole, "pair": whole,
            "special_tokens": {"<|im_start|>": named},
        }  # fmt: skip

    folder = altered(tiny_folder, tmp_path, begin)
    found = report(folder, tiny_gguf, 200)
    assert found.same_ids == found.same_text == found.texts
    with pytest.raises(QuantizeError, match=r"tokenizer puts \[\], the source’s \[0\]"):
        found.require(tiny_gguf)
    export(Checkpoint.open(folder), tmp_path / "model.gguf", "F32")
    assert report(folder, tmp_path / "model.gguf", 200).passed
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | {"add_bos_token": False}))
    assert report(folder, tiny_gguf, 200).passed


def test_nothing_tried_is_not_passed(tiny_folder: Path, tiny_gguf: Path) -> None:
    assert not compare_tokens(Checkpoint.open(tiny_folder), tiny_gguf, []).passed


def test_the_texts_are_the_same_each_time() -> None:
    assert list(texts(500)) == list(texts(500))
    assert len(set(texts())) > 9_000
    assert not any("\ud800" <= char <= "\udfff" for text in texts() for char in text)
