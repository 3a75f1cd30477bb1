"""Tokenizers with byte fallback, Llama 2’s and Lucie’s: what is exported, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from tokenizers import Tokenizer

from edge.checkpoint import Checkpoint
from edge.errors import CheckpointError
from quantize import gguf_bundle, onnx_bundle
from quantize.errors import QuantizeError
from quantize.gates import predictions
from quantize.gates.sample_texts import texts
from quantize.gates.tokens import compare_tokens, vocabulary
from quantize.search import mixture
from tests.quantize import tiny

pytestmark = pytest.mark.model

CONFIG = tiny.CONFIG | {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
TEXT = "L’élève dit : « Aujourd'hui (à 8 h) :\n\tC'est l’heure ! »  <b>où</b> 👍🏽 ça\n\n"


@pytest.fixture(autouse=True)
def less_to_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gguf_bundle, "sample_texts", partial(texts, 500))
    monkeypatch.setattr(predictions, "_CHUNKS", 2)
    monkeypatch.setattr(predictions, "_PROMPTS", 2)


def folder(path: Path, words: Tokenizer) -> Path:
    return tiny.write(path, CONFIG, tiny.weights(CONFIG), words)


def spelt(file: Path, ids: list[int]) -> str:
    """What a program shows of an answer."""
    with vocabulary(file) as vocab:
        stream = vocab.stream()
        return "".join(map(stream.feed, ids)) + stream.flush()


def no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    def written(*_: Any, **__: Any) -> None:
        raise AssertionError("weights are written")

    for module in (gguf_bundle, onnx_bundle, mixture):
        monkeypatch.setattr(module, "export", written)


def test_llama_2_is_exported_to_gguf(
    lucie: Callable[..., Result], tmp_path: Path, text: Path
) -> None:
    words = tiny.llama_2(CONFIG)
    source = folder(tmp_path / "source", words)
    lucie("gguf", source, "out", "--type", "q8_0", "--threads", "1", "--text", f"fr={text}")
    file = tmp_path / "out" / "out.gguf"
    report = compare_tokens(Checkpoint.open(source), file, list(texts(2000)))
    assert report.passed
    assert report.source_first == (1,)
    ids = words.encode(TEXT, add_special_tokens=False).ids
    with vocabulary(file) as vocab:
        assert vocab.encode(TEXT, special=False, bos=True) == [1, *ids]
    assert words.decode(ids) == TEXT
    assert spelt(file, ids) == f" {TEXT}"


@pytest.mark.parametrize("manner", [tiny.llama_2, tiny.lucie])
def test_both_are_exported_to_onnx(
    lucie: Callable[..., Result],
    tmp_path: Path,
    text: Path,
    manner: Callable[[dict[str, Any]], Tokenizer],
) -> None:
    words = manner(CONFIG)
    source = folder(tmp_path / "source", words)
    lucie("onnx", source, "out", "--bits", "8", "--threads", "1", "--text", f"fr={text}")
    file = next((tmp_path / "out" / "onnx").glob("*.onnx"))
    ids = words.encode(TEXT, add_special_tokens=False).ids
    with vocabulary(file) as vocab:
        assert vocab.encode(TEXT, special=False, bos=True) == words.encode(TEXT).ids
    assert words.decode(ids) == TEXT
    assert spelt(file, ids) == f" {TEXT}"


def test_what_gguf_cannot_say_of_lucie_is_named_before_weights_are_written(
    lucie: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = folder(tmp_path / "source", tiny.lucie(CONFIG))
    no_weights(monkeypatch)
    for command in (("gguf",), ("search", "--like", "Q4_0")):
        with pytest.raises(CheckpointError) as caught:
            lucie(command[0], source, "out", *command[1:])
        assert "normalizer: NFC, Replace × 20; decoder: Replace × 18" in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_merges_that_llama_cpp_has_otherwise_are_found_before_weights_are_written(
    lucie: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = json.loads(tiny.llama_2(CONFIG).to_str())
    merges = given["model"]["merges"]
    given["model"]["merges"] = [pair for pair in merges if "".join(pair) != "".join(merges[0])]
    source = folder(tmp_path / "source", Tokenizer.from_str(json.dumps(given)))
    no_weights(monkeypatch)
    for command in (("gguf",), ("search", "--like", "Q4_0")):
        with pytest.raises(QuantizeError, match=r"^out is not published: its tokenizer differs"):
            lucie(command[0], source, "out", *command[1:])
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_an_answer_may_end_within_a_character(tmp_path: Path) -> None:
    words = tiny.lucie(CONFIG)
    source = folder(tmp_path / "source", words)
    ids = words.encode("où 👍", add_special_tokens=False).ids
    assert len(ids) > 5
    with vocabulary(source) as vocab:
        stream = vocab.stream()
        shown = [stream.feed(id_) for id_ in ids[:-1]]
    assert "".join(shown) == " où "
    assert set(stream.flush()) == {"\ufffd"}
