"""Tokenizers with byte fallback, Llama 2’s and Lucie’s: what is exported, and what is refused."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from click.testing import Result
from tokenizers import AddedToken, Tokenizer

from edge.checkpoint import Checkpoint
from edge.constraint import compile_schema
from edge.errors import CheckpointError, DamagedModelError, EngineError
from edge.gguf_tokenizer import HUGGING_FACE
from edge.llamacpp import LlamaEngine
from edge.text import StreamDecoder
from edge.tokenizer_file import open_tokenizer
from quantize import gguf_bundle, onnx_bundle
from quantize.errors import QuantizeError
from quantize.gates import predictions
from quantize.gates.sample_texts import texts
from quantize.gates.tokens import compare_tokens, vocabulary
from quantize.ggml.dequantize import write_checkpoint
from quantize.ggml.export import export
from quantize.search import mixture
from tests.edge import gguf_files
from tests.edge.engines import options, prefill
from tests.edge.gguf_files import STRING, Value
from tests.edge.servers import running
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


def exported(source: Path) -> Path:
    file = source.with_suffix(".gguf")
    export(Checkpoint.open(source), file, "F16")
    return file


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


@pytest.mark.parametrize("manner", [tiny.llama_2, tiny.lucie])
def test_both_are_exported_to_gguf(
    lucie: Callable[..., Result],
    tmp_path: Path,
    text: Path,
    manner: Callable[[dict[str, Any]], Tokenizer],
) -> None:
    words = manner(CONFIG)
    source = folder(tmp_path / "source", words)
    lucie("gguf", source, "out", "--type", "q8_0", "--threads", "1", "--text", f"fr={text}")
    file = tmp_path / "out" / "out.gguf"
    report = compare_tokens(Checkpoint.open(source), file, list(texts(2000)))
    assert report.passed
    first = words.token_to_id("<s>")
    assert report.source_first == (first,)
    ids = words.encode(TEXT, add_special_tokens=False).ids
    with vocabulary(file) as vocab:
        assert vocab.encode(TEXT, special=False, bos=True) == [first, *ids]
    assert words.decode(ids) == TEXT
    assert spelt(file, ids) == f" {TEXT}"
    # Llama 2’s needs nothing but GGUF's own fields, which every program reads.
    assert (HUGGING_FACE in gguf.GGUFReader(file).fields) is (manner is tiny.lucie)


def test_our_engine_answers_with_lucie_s_tokenizer(tmp_path: Path) -> None:
    words = tiny.lucie(CONFIG)
    file = exported(folder(tmp_path / "source", words))
    engine = LlamaEngine(file, options())
    try:
        prompt = engine.tokenizer.encode("L'eau (« ça »)", special=False, bos=True)
        assert prompt == words.encode("L'eau (« ça »)").ids
        logits = prefill(engine, engine.open(), prompt)
        assert np.isfinite(logits).all()
        stream = engine.tokenizer.stream()
        assert "".join(map(stream.feed, prompt[1:])) + stream.flush() == " L'eau (« ça »)"
    finally:
        engine.close()


SIZES = ["petit", "L'eau (« ça »)"]
SCHEMA = {
    "type": "object",
    "properties": {
        "nom": {"type": "string", "maxLength": 6},
        "taille": {"type": "array", "items": {"enum": SIZES}, "maxItems": 3},
    },
    "required": ["nom", "taille"],
    "additionalProperties": False,
}


def check(answer: str) -> None:
    """See that it keeps to the schema."""
    told = json.loads(answer)
    assert set(told) == {"nom", "taille"}
    assert set(told["taille"]) <= set(SIZES)


@pytest.mark.parametrize("manner", [tiny.llama_2, tiny.lucie])
def test_answers_keep_to_a_schema_though_the_tokenizer_adds_spaces(
    tmp_path: Path, manner: Callable[[dict[str, Any]], Tokenizer]
) -> None:
    rng = np.random.default_rng(0)
    with vocabulary(exported(folder(tmp_path / "source", manner(CONFIG)))) as vocab:
        for _ in range(5):
            constraint = compile_schema(SCHEMA, vocab)
            stream, text = StreamDecoder(vocab), ""  # as the server does, see `Answer`
            while not constraint.finished():
                logits = rng.normal(size=vocab.n_vocab).astype(np.float32)
                constraint.apply(logits)
                token = int(logits.argmax())
                constraint.accept(token)
                if token not in vocab.eog:
                    text += stream.feed(token)
            check(text + stream.flush())


@pytest.mark.parametrize("manner", [tiny.llama_2, tiny.lucie])
def test_a_server_keeps_to_a_schema_with_such_a_model(
    tmp_path: Path, manner: Callable[[dict[str, Any]], Tokenizer]
) -> None:
    source = folder(tmp_path / "source", manner(CONFIG))
    (source / "chat_template.jinja").write_text("{{ messages[0].content }}")
    file = exported(source)
    form = {"type": "json_schema", "json_schema": {"name": "c", "schema": SCHEMA, "strict": True}}
    ask = {"messages": [{"role": "user", "content": "L'eau (« ça »)"}], "response_format": form}
    home = tmp_path / "home"
    env = {**os.environ, "LUCIE_HOME": str(home)}
    lucie = Path(sys.executable).with_name("lucie")
    with running(
        tmp_path / "s", str(lucie), "serve", "--model", str(file), "--socket", str(tmp_path / "s"),
        env=env,
    ) as server:  # fmt: skip
        for seed in range(3):
            body = ask | {"seed": seed, "temperature": 1.0, "max_tokens": 200}
            told = server.post("/v1/chat/completions", body).json()
            check(told["choices"][0]["message"]["content"])


def test_the_way_back_from_gguf_has_the_same_tokenizer(tmp_path: Path) -> None:
    words = tiny.lucie(CONFIG)
    file = exported(folder(tmp_path / "source", words))
    back = tmp_path / "back"
    back.mkdir()
    write_checkpoint(file, back)
    assert json.loads((back / "tokenizer.json").read_text()) == json.loads(words.to_str())
    assert compare_tokens(Checkpoint.open(back), file, list(texts(500))).passed


def test_without_the_library_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = exported(folder(tmp_path / "source", tiny.lucie(CONFIG)))
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(EngineError, match="needs the library tokenizers: pip install tokenizers"):
        LlamaEngine(file, options())


def test_a_damaged_tokenizer_in_a_file_is_told(tmp_path: Path) -> None:
    model = gguf_files.tiny("llama")
    model.pairs[HUGGING_FACE] = Value(STRING, "{")
    file = model.write(tmp_path / "m.gguf")
    with (
        pytest.raises(DamagedModelError, match=rf"m\.gguf is damaged: {HUGGING_FACE}: .*EOF"),
        vocabulary(file),
    ):
        pass
    with pytest.raises(DamagedModelError, match=HUGGING_FACE):
        write_checkpoint(file, tmp_path)


def test_a_tokenizer_that_panics_is_an_error(tmp_path: Path) -> None:
    """Panics of Rust pass every `except Exception`."""
    given = json.loads(tiny.lucie(CONFIG).to_str())
    source = folder(tmp_path / "source", tiny.lucie(CONFIG))
    given["normalizer"] = {"type": "Precompiled", "precompiled_charsmap": "//////////8="}
    (source / "tokenizer.json").write_text(json.dumps(given))
    with pytest.raises(DamagedModelError, match="precompiled_charsmap"), vocabulary(source):
        pass
    with pytest.raises(CheckpointError, match="precompiled_charsmap"):
        open_tokenizer(source)
    given["normalizer"] = {"type": "Replace", "pattern": {"Regex": "(a|aa)+$"}, "content": "x"}
    (source / "tokenizer.json").write_text(json.dumps(given))
    with (
        vocabulary(source) as vocab,
        pytest.raises(EngineError, match="cannot be cut into tokens: Onig"),
    ):
        vocab.encode("a" * 60 + "b", special=False)


def test_tokens_that_the_model_has_not_are_told(tmp_path: Path) -> None:
    model = gguf_files.tiny("llama")  # of 300 tokens
    model.pairs[HUGGING_FACE] = Value(STRING, tiny.lucie(CONFIG).to_str())
    with (
        vocabulary(model.write(tmp_path / "m.gguf")) as vocab,
        pytest.raises(EngineError, match=r"makes token \d{3,4} of this text, .* has 300 only"),
    ):
        vocab.encode(TEXT, special=False)


def test_a_file_s_own_wish_to_cut_texts_is_not_followed(tmp_path: Path) -> None:
    words = tiny.lucie(CONFIG)
    whole = words.encode(TEXT, add_special_tokens=False).ids
    words.enable_truncation(8)
    words.enable_padding(length=16)
    source = folder(tmp_path / "source", words)
    for file in (source, exported(source)):
        with vocabulary(file) as vocab:
            assert vocab.encode(TEXT, special=False) == whole
            assert len(vocab.encode("a", special=False)) < 8


def test_what_looks_like_a_control_token_is_none_for_users(tmp_path: Path) -> None:
    """DeepSeek’s <｜User｜> is no special token by its file, and begins a turn."""
    words = tiny.lucie(CONFIG)
    words.add_tokens([AddedToken("<｜User｜>", normalized=False)])
    id_ = words.token_to_id("<｜User｜>")
    config = CONFIG | {"vocab_size": id_ + 1}
    source = tiny.write(tmp_path / "source", config, tiny.weights(config), words)
    for file in (source, exported(source)):
        with vocabulary(file) as vocab:
            assert id_ not in vocab.encode("a <｜User｜> b", special=False)
            assert id_ in vocab.encode("a <｜User｜> b", special=True)
            assert "<｜User｜>" in vocab.special_texts
            assert vocab.piece(id_) == b""


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
