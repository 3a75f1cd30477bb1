"""ONNX exports, judged by numpy (`tiny.logits`) through plain ONNX Runtime."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from gguf import GGMLQuantizationType
from gguf.quants import dequantize, quantize
from numpy.typing import NDArray

from edge.checkpoint import Checkpoint
from edge.errors import CheckpointError
from quantize.errors import QuantizeError, QuantizeUsageError
from quantize.ggml.imatrix import Importance, ImportanceMatrix
from quantize.graph.export import export
from quantize.graph.layout import write_layout
from quantize.graph.rounding import per_row, to_blocks
from quantize.graph.types import F16, F32, INT8, Q4, Q8, Type, type_of
from tests.quantize import tiny

IDS = list(range(40, 80))


def exported(folder: Path, out: Path, wanted: Type) -> Path:
    (out / "onnx").mkdir(parents=True)
    checkpoint = Checkpoint.open(folder)
    graph = export(checkpoint, out / "onnx", wanted)
    write_layout(checkpoint, out, graph, wanted)
    return graph


def run(graph: Path, config: dict[str, Any], pieces: list[list[int]]) -> NDArray[np.float32]:
    """Logits after the last token of each piece, the cache growing as any caller's would."""
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    shape = (1, config["num_key_value_heads"], 0, config["head_dim"])
    half = "float16" in session.get_inputs()[2].type
    empty = np.zeros(shape, np.float16 if half else np.float32)
    names = [each.name for each in session.get_inputs() if each.name.startswith("past")]
    past = dict.fromkeys(names, empty)
    found, length = [], 0
    for piece in pieces:
        length += len(piece)
        given = {
            "input_ids": np.array([piece], np.int64),
            "attention_mask": np.ones((1, length), np.int64),
        }
        logits, *present = session.run(None, given | past)
        found.append(logits[0, -1])
        past = dict(zip(names, present, strict=True))
    return np.stack(found)


@pytest.mark.parametrize("scaling", [None, tiny.LLAMA_3_ROPE], ids=["plain", "llama3"])
@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
def test_floats_compute_what_transformers_formulas_say(
    tmp_path: Path, tied: bool, scaling: dict[str, Any] | None
) -> None:
    config = tiny.CONFIG | {"tie_word_embeddings": tied, "rope_scaling": scaling}
    weights = tiny.weights(config)
    graph = exported(tiny.write(tmp_path / "model", config, weights), tmp_path / "out", F32)
    pieces = [IDS[:17], *([token] for token in IDS[17:30]), IDS[30:]]
    expected = tiny.logits(config, weights, IDS)
    ends = np.cumsum([len(piece) for piece in pieces]) - 1
    # The note's figure for float32 is 1e-3; logits here spread over ± 10.
    np.testing.assert_allclose(run(graph, config, pieces), expected[ends], atol=2e-4)


def test_half_precision_stays_near(tiny_folder: Path, tmp_path: Path) -> None:
    graph = exported(tiny_folder, tmp_path / "out", F16)
    expected = tiny.logits(tiny.CONFIG, tiny.weights(tiny.CONFIG), IDS)[-1]
    found = run(graph, tiny.CONFIG, [IDS])[0]
    assert np.abs(found - expected).max() < 0.05


def rounded(weights: tiny.Weights, wanted: Type) -> tiny.Weights:
    """What the numbers of a type stand for, by the formulas of the operators' specifications."""

    def blocks(weight: NDArray[np.float32], bits: int) -> NDArray[np.float32]:
        levels, scales = to_blocks(weight, bits)
        if bits == 4:
            levels = np.stack([levels & 15, levels >> 4], axis=-1)
        levels = levels.reshape(*scales.shape, 32).astype(np.float32) - 2 ** (bits - 1)
        return (levels * scales[..., None]).reshape(weight.shape)

    def row(weight: NDArray[np.float32]) -> NDArray[np.float32]:
        levels, scales = per_row(weight)
        return (levels.astype(np.float32) - 128) * scales[:, None]

    made = {}
    for name, weight in weights.items():
        head = name.startswith(("lm_head", "model.embed"))
        if weight.ndim == 1:
            made[name] = weight
        elif wanted is INT8 and not head:
            made[name] = row(weight)
        else:
            made[name] = blocks(weight, 4 if wanted is Q4 and not head else 8)
    return made


def exact(graph: Path) -> Path:
    """The same graph, with activations that are not rounded to 8 bits on the way."""
    model = onnx.load(graph, load_external_data=False)
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.name == "accuracy_level":
                attribute.i = 0
    target = graph.with_name("exact.onnx")
    target.write_bytes(model.SerializeToString())
    return target


@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
@pytest.mark.parametrize("wanted", [Q8, Q4], ids=["Q8", "Q4"])
def test_blocks_compute_what_they_stand_for(tmp_path: Path, wanted: Type, tied: bool) -> None:
    config = tiny.CONFIG | {"tie_word_embeddings": tied}
    weights = tiny.weights(config)
    graph = exported(tiny.write(tmp_path / "model", config, weights), tmp_path / "out", wanted)
    expected = tiny.logits(config, rounded(weights, wanted), IDS)[-1]
    np.testing.assert_allclose(run(exact(graph), config, [IDS])[0], expected, atol=5e-4)
    fast = run(graph, config, [IDS])[0]
    assert 1e-3 < np.abs(fast - expected).max() < 0.05 * np.abs(expected).max()


def test_rows_of_int8_compute_what_they_stand_for(tiny_folder: Path, tmp_path: Path) -> None:
    """But for activations, which are rounded to 8 bits with one scale for all of a step."""
    weights = tiny.weights(tiny.CONFIG)
    found = run(exported(tiny_folder, tmp_path / "out", INT8), tiny.CONFIG, [IDS])[0]
    expected = tiny.logits(tiny.CONFIG, rounded(weights, INT8), IDS)[-1]
    assert np.corrcoef(found, expected)[0, 1] > 0.998


def test_the_embedding_is_stored_once_where_it_is_the_output_matrix_too(tmp_path: Path) -> None:
    config = tiny.CONFIG | {"tie_word_embeddings": True}
    folder = tiny.write(tmp_path / "model", config, tiny.weights(config))
    size = config["vocab_size"] * config["hidden_size"]
    for wanted, embedding in ((F32, 4 * size), (F16, 2 * size), (Q8, size * 36 // 32)):
        graph = exported(folder, tmp_path / wanted.name, wanted)
        data = graph.with_name(f"{graph.name}_data")
        layers = sum(
            weight.size for name, weight in tiny.weights(config).items()
            if weight.ndim > 1 and "embed" not in name
        )  # fmt: skip
        per_number = embedding / size
        most = embedding + layers * per_number + 4096 * 20
        assert data.stat().st_size < most


def numbers(weight: NDArray[np.float32], importance: Any = None) -> NDArray[np.float32]:
    levels, scales = to_blocks(weight, 4, importance)
    split = np.stack([levels & 15, levels >> 4], axis=-1).reshape(*scales.shape, 32)
    return ((split.astype(np.float32) - 8) * scales[..., None]).reshape(weight.shape)


def test_four_bits_lose_less_than_the_reference_rounding_of_q4_0() -> None:
    """By gguf-py; its scales are float16, which costs less than a thousandth."""
    dice = np.random.default_rng(3)
    weight = dice.standard_normal((64, 256)).astype(np.float32)
    weight[0, :32] = 0
    theirs = dequantize(quantize(weight, GGMLQuantizationType.Q4_0), GGMLQuantizationType.Q4_0)
    ours = numbers(weight)
    assert (ours[0, :32] == 0).all()
    # Weighed as llama.cpp weighs where it knows nothing else, by x².
    lost, reference = (
        ((each - weight) ** 2 * weight**2).sum(axis=1) for each in (ours, theirs)
    )  # fmt: skip
    assert (lost <= reference * 1.001).all()
    assert lost.sum() < 0.9 * reference.sum()


def test_a_block_whose_scale_has_no_inverse_is_zero() -> None:
    assert (numbers(np.full((2, 32), 1e-42, np.float32)) == 0).all()


def test_what_matters_more_is_rounded_better() -> None:
    weight = np.random.default_rng(4).standard_normal((64, 256)).astype(np.float32)
    importance = np.ones(256, np.float32)
    importance[::4] = 100
    lost = (numbers(weight, importance) - weight) ** 2
    plain = (numbers(weight) - weight) ** 2
    assert lost[:, ::4].sum() < 0.8 * plain[:, ::4].sum()


def test_the_graph_says_shapes_that_genai_and_transformers_js_read(
    tiny_folder: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(tiny_folder, tmp_path / "model")
    (folder / "chat_template.jinja").write_text("{{ messages[0].content }}")
    graph = exported(folder, tmp_path / "out", Q4)
    model = onnx.load(graph, load_external_data=False)
    inputs = {each.name: each.type.tensor_type.shape.dim for each in model.graph.input}
    assert [d.dim_value for d in inputs["past_key_values.1.value"]][1::2] == [2, 32]
    assert graph.name == "model_q4.onnx"
    out = tmp_path / "out"
    config = json.loads((out / "config.json").read_text())
    assert config["transformers.js_config"]["use_external_data_format"] == {"model_q4.onnx": 1}
    genai = json.loads((out / "genai_config.json").read_text())
    assert (out / genai["model"]["decoder"]["filename"]).samefile(graph)
    settings = json.loads((out / "tokenizer_config.json").read_text())
    assert settings["chat_template"] == "{{ messages[0].content }}"
    assert (out / "tokenizer.json").read_bytes() == (tiny_folder / "tokenizer.json").read_bytes()


def test_dynamic_is_for_eight_bits() -> None:
    assert type_of(8, dynamic=True) is INT8
    with pytest.raises(QuantizeUsageError, match="--bits 8"):
        type_of(4, dynamic=True)


def test_weights_that_are_not_finite_are_named(tmp_path: Path) -> None:
    weights = tiny.weights(tiny.CONFIG)
    weights["model.layers.1.mlp.up_proj.weight"][3, 4] = np.nan
    folder = tiny.write(tmp_path / "model", tiny.CONFIG, weights)
    with pytest.raises(CheckpointError, match=r"layers\.1\.mlp\.up_proj"):
        exported(folder, tmp_path / "out", Q4)


def test_heads_that_cannot_be_rotated_are_refused(tmp_path: Path) -> None:
    config = tiny.CONFIG | {"head_dim": 24}
    folder = tiny.write(tmp_path / "model", config, tiny.weights(config))
    with pytest.raises(CheckpointError, match=r"heads of 24 numbers.*--exporter optimum"):
        exported(folder, tmp_path / "out", F32)


def test_a_window_that_the_graph_cannot_hold_is_refused(tmp_path: Path) -> None:
    config = tiny.CONFIG | {"max_position_embeddings": 1 << 24}
    folder = tiny.write(tmp_path / "model", config, tiny.weights(config))
    with pytest.raises(CheckpointError, match=r"window of 16,777,216 tokens.*--exporter optimum"):
        exported(folder, tmp_path / "out", F32)
    assert list((tmp_path / "out" / "onnx").iterdir()) == []


@pytest.mark.parametrize("wider", [2, 0.5])
def test_a_matrix_of_another_width_is_refused(
    tiny_folder: Path, tmp_path: Path, wider: float
) -> None:
    sums = np.ones(int(wider * tiny.CONFIG["hidden_size"]), np.float32)
    entries = {"blk.0.attn_q.weight": Importance(sums, np.ones(1, np.float32))}
    matrix = ImportanceMatrix(entries, (), 1, 512)
    with pytest.raises(QuantizeError, match=r"of another model.*attn_q"):
        export(Checkpoint.open(tiny_folder), tmp_path, Q4, importance=matrix)
    assert list(tmp_path.iterdir()) == []


def test_widths_that_are_no_blocks_are_refused(tmp_path: Path) -> None:
    config = tiny.CONFIG | {"intermediate_size": 500}
    folder = tiny.write(tmp_path / "model", config, tiny.weights(config))
    with pytest.raises(CheckpointError, match="multiples of 32"):
        exported(folder, tmp_path / "q4", Q4)
    exported(folder, tmp_path / "f32", F32)
