"""A GGUF file computes what the model folder computes, and says of itself what it should."""

from __future__ import annotations

import json
from array import array
from contextlib import closing
from pathlib import Path
from typing import Any

import gguf
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from edge.checkpoint import Checkpoint
from edge.errors import CheckpointError, StoreError
from edge.gguf_header import read_header
from quantize.ggml.export import export, widest
from quantize.measuring.reading import Reader
from tests.quantize import tiny

IDS = [0, 17, 300, 4, 999, 42, 42, 511, 800, 3]


def exported(folder: Path, kind: str = "F32") -> Path:
    target = folder.parent / f"{folder.name}-{kind}.gguf"
    export(Checkpoint.open(folder), target, kind)
    return target


def computed(path: Path, ids: list[int]) -> Any:
    with closing(Reader(path, chunk=64, threads=1)) as reader:
        return reader.read(array("i", ids)).copy()


@pytest.mark.model
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"tie_word_embeddings": True},
        {"num_key_value_heads": 8},
        {"head_dim": 64},  # not hidden_size / heads, as some models have it
        {"rope_theta": 500_000.0, "rope_scaling": tiny.LLAMA_3_ROPE},
    ],
)
def test_computes_what_the_source_computes(tmp_path: Path, changes: dict[str, Any]) -> None:
    config = tiny.CONFIG | changes
    weights = tiny.weights(config)
    folder = tiny.write(tmp_path / "model", config, weights)
    expected = tiny.logits(config, weights, IDS)
    found = computed(exported(folder), IDS)
    error = np.sqrt(((found - expected) ** 2).mean() / (expected**2).mean())
    assert error < 0.005  # llama.cpp keeps keys and values in float16


@pytest.mark.parametrize(("kind", "dtype"), [("F16", np.float16), ("BF16", ml_dtypes.bfloat16)])
def test_numbers_are_rounded_to_the_nearest(tmp_path: Path, kind: str, dtype: Any) -> None:
    weights = tiny.weights(tiny.CONFIG)
    path = exported(tiny.write(tmp_path / "model", tiny.CONFIG, weights), kind)
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    expected = weights["model.layers.1.mlp.down_proj.weight"].astype(dtype)
    assert tensors["blk.1.ffn_down.weight"].data.tobytes() == expected.tobytes()
    assert tensors["blk.1.ffn_norm.weight"].tensor_type == gguf.GGMLQuantizationType.F32


def test_shards_are_read_like_one_file(tmp_path: Path) -> None:
    weights = tiny.weights(tiny.CONFIG)
    whole = tiny.write(tmp_path / "whole", tiny.CONFIG, weights)
    parted = tiny.write(tmp_path / "parted", tiny.CONFIG, weights)
    (parted / "model.safetensors").unlink()
    names = sorted(weights)
    place = {name: f"model-0000{1 + n % 2}-of-00002.safetensors" for n, name in enumerate(names)}
    for file in set(place.values()):
        part = {name: weights[name] for name in names if place[name] == file}
        save_file(part, parted / file)
    index = {"metadata": {}, "weight_map": place}
    (parted / "model.safetensors.index.json").write_text(json.dumps(index))
    tensors = [
        {tensor.name: tensor.data.tobytes() for tensor in gguf.GGUFReader(path).tensors}
        for path in (exported(whole), exported(parted))
    ]
    assert tensors[0] == tensors[1]


def test_the_narrowest_type_that_loses_nothing(tmp_path: Path) -> None:
    weights = tiny.weights(tiny.CONFIG)
    half = {name: tensor.astype(ml_dtypes.bfloat16) for name, tensor in weights.items()}
    norm, matrix = "model.norm.weight", "model.layers.0.mlp.up_proj.weight"
    cases = (
        (weights, "F32"),
        (half, "BF16"),
        (half | {norm: weights[norm]}, "BF16"),
        (half | {matrix: weights[matrix]}, "F32"),
    )
    for content, expected in cases:
        folder = tiny.write(tmp_path / "model", tiny.CONFIG, content)
        assert widest(Checkpoint.open(folder)) == expected


def test_says_what_it_is(tmp_path: Path) -> None:
    folder = tiny.write(tmp_path / "model", tiny.CONFIG, tiny.weights(tiny.CONFIG))
    (folder / "chat_template.jinja").write_text("{{ messages[0].content }}")
    header = read_header(exported(folder, "F16"))
    assert (header.file_type, header.n_ctx_train, header.head_dim_k) == ("F16", 512, 32)
    assert header.template == "{{ messages[0].content }}"
    assert header.metadata["tokenizer.ggml.pre"] == "smollm"
    assert header.metadata["tokenizer.ggml.bos_token_id"] == 0
    assert header.metadata["tokenizer.ggml.eos_token_id"] == 1
    assert header.n_params == sum(t.size for t in tiny.weights(tiny.CONFIG).values())


# --- what is refused ------------------------------------------------------------------------


def refused(folder: Path, kind: str = "F32") -> str:
    """The code of the error; nothing may be left of the export."""
    before = sorted(folder.parent.iterdir())
    with pytest.raises(CheckpointError) as caught:
        exported(folder, kind)
    assert sorted(folder.parent.iterdir()) == before
    assert "\n" not in str(caught.value)
    return caught.value.code


def changed(tmp_path: Path, name: str, tensor: Any) -> Path:
    """A folder with one tensor replaced, or taken away."""
    weights = tiny.weights(tiny.CONFIG)
    if tensor is None:
        del weights[name]
    else:
        weights[name] = tensor
    return tiny.write(tmp_path / "model", tiny.CONFIG, weights)


Q = "model.layers.0.self_attn.q_proj.weight"


def test_a_missing_tensor(tmp_path: Path) -> None:
    assert refused(changed(tmp_path, Q, None)) == "checkpoint.missing-tensor"


def test_a_tensor_too_many(tmp_path: Path) -> None:
    extra = np.zeros(4, np.float32)
    folder = changed(tmp_path, "model.layers.0.self_attn.q_proj.bias", extra)
    assert refused(folder) == "checkpoint.unknown-tensor"


def test_a_wrong_shape(tmp_path: Path) -> None:
    assert refused(changed(tmp_path, Q, np.zeros((256, 255), np.float32))) == "checkpoint.shape"


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_what_is_no_number(tmp_path: Path, number: float) -> None:
    weight = tiny.weights(tiny.CONFIG)[Q]
    weight[3, 7] = number
    assert refused(changed(tmp_path, Q, weight), "F16") == "checkpoint.not-finite"


def test_what_does_not_fit_the_type(tmp_path: Path) -> None:
    weight = tiny.weights(tiny.CONFIG)[Q]
    weight[3, 7] = 70_000
    folder = changed(tmp_path, Q, weight)
    assert refused(folder, "F16") == "checkpoint.overflow"
    exported(folder, "BF16")


def test_integers_are_no_weights(tmp_path: Path) -> None:
    folder = changed(tmp_path, Q, np.zeros((256, 256), np.int8))
    assert refused(folder) == "checkpoint.dtype"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"architectures": ["MistralForCausalLM"]}, "checkpoint.architecture"),
        ({"architectures": None}, "checkpoint.no-architecture"),
        ({"attention_bias": True}, "checkpoint.bad-config"),
        ({"hidden_act": "gelu"}, "checkpoint.bad-config"),
        ({"num_attention_heads": 7}, "checkpoint.bad-config"),
        ({"hidden_size": "256"}, "checkpoint.bad-config"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 2.0}}, "checkpoint.bad-config"),
        ({"vocab_size": 700}, "checkpoint.vocabulary"),
    ],
)
def test_a_config_that_is_not_understood(
    tmp_path: Path, changes: dict[str, Any], code: str
) -> None:
    folder = tiny.write(tmp_path / "model", tiny.CONFIG, tiny.weights(tiny.CONFIG))
    config = tiny.CONFIG | changes
    (folder / "config.json").write_text(json.dumps(config))
    if code == "checkpoint.vocabulary":  # the weights fit, the tokenizer does not
        save_file(tiny.weights(config), folder / "model.safetensors")
    assert refused(folder) == code


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda given: given | {"pre_tokenizer": None}, "checkpoint.pre-tokenizer"),
        (lambda given: given | {"normalizer": {"type": "NFC"}}, "checkpoint.normalizer"),
        (lambda given: given | {"model": {"type": "Unigram"}}, "checkpoint.tokenizer"),
        (lambda given: given | {"model": {"type": "BPE", "vocab": 5}}, "checkpoint.bad-json"),
    ],
)
def test_a_tokenizer_without_an_equal(tmp_path: Path, change: Any, code: str) -> None:
    folder = tiny.write(tmp_path / "model", tiny.CONFIG, tiny.weights(tiny.CONFIG))
    file = folder / "tokenizer.json"
    file.write_text(json.dumps(change(json.loads(file.read_text()))))
    assert refused(folder) == code


def test_a_cut_off_file(tmp_path: Path) -> None:
    folder = tiny.write(tmp_path / "model", tiny.CONFIG, tiny.weights(tiny.CONFIG))
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:100_000])
    assert refused(folder) == "checkpoint.unreadable"
    file.unlink()
    file.mkdir()
    with pytest.raises(CheckpointError, match=r"model\.safetensors .*: it is a folder"):
        exported(folder)


def test_a_pickle_is_not_opened(tmp_path: Path) -> None:
    folder = tiny.write(tmp_path / "model", tiny.CONFIG, tiny.weights(tiny.CONFIG))
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert refused(folder) == "checkpoint.no-weights"


def test_an_index_that_points_elsewhere(tmp_path: Path) -> None:
    folder = tiny.write(tmp_path / "model", tiny.CONFIG, tiny.weights(tiny.CONFIG))
    (folder / "model.safetensors").rename(tmp_path / "other.safetensors")
    index = {"weight_map": {Q: "../other.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert refused(folder) == "checkpoint.bad-json"


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    folder = tiny.write(tmp_path / "model", tiny.CONFIG, tiny.weights(tiny.CONFIG))
    path = exported(folder)
    content = path.read_bytes()
    with pytest.raises(StoreError):
        exported(folder)
    assert path.read_bytes() == content
