"""From the embedded default model's GGUF, which others made, to a model folder and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from edge.checkpoint import Checkpoint
from quantize.errors import QuantizeError
from quantize.gates.sample_texts import texts
from quantize.gates.tokens import compare_tokens
from quantize.ggml.dequantize import write_checkpoint
from quantize.ggml.export import export

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
    assert (report.same_ids, report.same_text) == (report.texts, report.texts) == (10_000, 10_000)


def test_another_architecture_is_refused(tiny_gguf: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.gguf"
    content = tiny_gguf.read_bytes()
    # The name stands once as a value and once in each key.
    other.write_bytes(content.replace(b"llama", b"qwen2"))
    with pytest.raises(QuantizeError) as caught:
        write_checkpoint(other, tmp_path)
    assert caught.value.code == "dequantize.architecture"
