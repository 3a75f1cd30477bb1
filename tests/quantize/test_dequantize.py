"""From the embedded default model's GGUF, which others made, to a model folder and back."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from edge.checkpoint import Checkpoint
from edge.errors import CheckpointError
from quantize.errors import QuantizeError
from quantize.gates.sample_texts import texts
from quantize.gates.tokens import compare_tokens
from quantize.ggml.dequantize import write_checkpoint
from quantize.ggml.export import export
from tests.edge import gguf_files
from tests.edge.gguf_files import ARRAY, BOOL, F32, I32, STRING, U32, Tensor, Value

pytestmark = pytest.mark.model


def fields(path: Path) -> dict[str, Any]:
    """What a file says of model and tokenizer."""
    found = gguf.GGUFReader(path).fields.items()
    return {k: f.contents() for k, f in found if k.startswith(("llama.", "tokenizer."))}


def test_comes_back_as_it_was_published(model_path: Path, smollm2: Path, tmp_path: Path) -> None:
    back = tmp_path / "back.gguf"
    export(Checkpoint.open(smollm2), back, "F16")
    published, ours = fields(model_path), fields(back)
    both = published.keys() & ours.keys()
    assert {key for key in both if published[key] != ours[key]} == set()
    # What llama.cpp takes for granted of a byte-level tokenizer.
    missing = {key: published[key] for key in published.keys() - both}
    assert missing == {"tokenizer.ggml.add_space_prefix": False}
    theirs = {tensor.name: tensor for tensor in gguf.GGUFReader(model_path).tensors}
    mine = {tensor.name: tensor for tensor in gguf.GGUFReader(back).tensors}
    assert theirs.keys() == mine.keys()
    for name in ("blk.7.attn_q.weight", "blk.7.attn_k.weight", "blk.7.ffn_down.weight"):
        expected = gguf.quants.dequantize(theirs[name].data, theirs[name].tensor_type)
        assert (mine[name].data == expected.astype(np.float16)).all(), name


def test_reads_the_tokens_that_the_published_file_reads(model_path: Path, smollm2: Path) -> None:
    report = compare_tokens(Checkpoint.open(smollm2), model_path, list(texts()))
    assert (report.same_ids, report.same_text) == (report.texts, report.texts)


def test_another_architecture_is_refused(tiny_gguf: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.gguf"
    content = tiny_gguf.read_bytes()
    # The name stands once as a value and once in each key.
    other.write_bytes(content.replace(b"llama", b"qwen2"))
    with pytest.raises(QuantizeError) as caught:
        write_checkpoint(other, tmp_path)
    assert caught.value.code == "dequantize.architecture"


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        ("llama.rope.scaling.type", Value(STRING, "yarn"), "llama.rope.scaling.type = yarn"),
        ("llama.rope.scale_linear", Value(F32, 4.0), "llama.rope.scale_linear"),
        ("llama.attention.scale", Value(F32, 0.5), "llama.attention.scale"),
        ("llama.rope.scaling.attn_factor", Value(F32, 0.5), "llama.rope.scaling.attn_factor"),
    ],
)
def test_a_setting_that_no_config_says_is_refused(
    tmp_path: Path, key: str, value: Value, named: str
) -> None:
    model = gguf_files.tiny("llama")
    model.pairs[key] = value
    with pytest.raises(QuantizeError, match=f"has {re.escape(named)},"):
        write_checkpoint(model.write(tmp_path / "m.gguf"), tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["m.gguf"]


@pytest.mark.parametrize(("tensor", "size"), [("attn_q.bias", 64), ("ffn_up.bias", 96)])
def test_a_bias_is_refused(tmp_path: Path, tensor: str, size: int) -> None:
    model = gguf_files.tiny("llama")
    model.tensors[f"blk.1.{tensor}"] = Tensor((size,))
    with pytest.raises(QuantizeError, match=f"has blk.1.{tensor},"):
        write_checkpoint(model.write(tmp_path / "m.gguf"), tmp_path)


@pytest.mark.parametrize(
    ("given", "rope"),
    [
        ({}, {"rope_type": "default"}),
        ({"type": Value(STRING, "none"), "factor": Value(F32, 4.0)}, {"rope_type": "default"}),
        # llama.cpp stretches by a factor where no rule is named.
        ({"factor": Value(F32, 4.0)}, {"rope_type": "linear", "factor": 4.0}),
        ({"finetuned": Value(BOOL, False)}, {"rope_type": "default"}),
    ],
)
def test_how_positions_are_stretched(
    tmp_path: Path, given: dict[str, Value], rope: dict[str, Any]
) -> None:
    model = gguf_files.tiny("llama")
    model.pairs |= {f"llama.rope.scaling.{key}": value for key, value in given.items()}
    model.set("llama.expert_count", U32, 0)
    write_checkpoint(model.write(tmp_path / "m.gguf"), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["rope_parameters"] == rope | {"rope_theta": 10_000.0}


@pytest.mark.parametrize(
    ("key", "value", "code"),
    [
        ("tokenizer.ggml.token_type", None, "dequantize.token-types"),
        ("tokenizer.ggml.token_type", Value(ARRAY, [0] * 300, I32), "dequantize.token-types"),
        ("tokenizer.ggml.padding_token_id", Value(U32, 300), "checkpoint.bad-config"),
        ("llama.attention.layer_norm_rms_epsilon", Value(F32, 0.0), "checkpoint.bad-config"),
    ],
)
def test_files_that_make_no_folder(
    tmp_path: Path, key: str, value: Value | None, code: str
) -> None:
    model = gguf_files.tiny("llama")
    if value is None:
        del model.pairs[key]
    else:
        model.pairs[key] = value
    with pytest.raises((QuantizeError, CheckpointError)) as caught:
        write_checkpoint(model.write(tmp_path / "m.gguf"), tmp_path)
    assert caught.value.code == code
    assert "\n" not in str(caught.value)
