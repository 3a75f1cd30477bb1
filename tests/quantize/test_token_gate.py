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

pytestmark = pytest.mark.model


def report(folder: Path, export: Path) -> TokenReport:
    return compare_tokens(Checkpoint.open(folder), export, list(texts()))


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
    assert found.texts == 10_000
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


def test_nothing_tried_is_not_passed(tiny_folder: Path, tiny_gguf: Path) -> None:
    assert not compare_tokens(Checkpoint.open(tiny_folder), tiny_gguf, []).passed


def test_the_texts_are_the_same_each_time() -> None:
    assert list(texts(500)) == list(texts(500))
    assert len(set(texts())) > 9_000
    assert not any("\ud800" <= char <= "\udfff" for text in texts() for char in text)
