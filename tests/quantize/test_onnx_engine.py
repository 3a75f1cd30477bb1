"""The engine on ONNX Runtime: what is its own, and files that are damaged or hostile."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge.device import detect
from edge.engine import Chunk, LoadOptions, Sampling
from edge.errors import (
    DamagedModelError,
    EngineError,
    LucieError,
    ModelChangedError,
    ModelError,
    UsageError,
)
from edge.onnx_header import read_onnx
from edge.onnxrt import OnnxEngine
from edge.plan import Chosen, plan
from quantize.graph.types import F16, F32
from tests.quantize import tiny
from tests.quantize.test_onnx_export import exported

IDS = list(range(40, 80))


@pytest.fixture(scope="module")
def made(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(tiny_folder, tmp_path_factory.mktemp("onnx") / "tiny", F32)


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Path:
    """A graph that a test may damage."""
    shutil.copytree(made.parent.parent, tmp_path / "tiny")
    return tmp_path / "tiny" / "onnx" / made.name


def engine(graph: Path, **changes: Any) -> OnnxEngine:
    chosen: dict[str, Any] = {
        "n_ctx": 128, "n_seq": 2, "n_batch": 64, "threads": 1, "threads_batch": 1, "kv_type": "f32",
    }  # fmt: skip
    return OnnxEngine(read_onnx(graph), LoadOptions(**{**chosen, **changes}))


def after(run: OnnxEngine, pieces: list[list[int]]) -> np.ndarray:
    seq = run.open()
    for piece in pieces:
        (row,) = run.step([Chunk(seq, piece, sample=True)])
    return run.logits(row).copy()


def refused(graph: Path) -> LucieError:
    with pytest.raises(LucieError) as caught:
        engine(graph)
    assert "\n" not in str(caught.value)
    return caught.value


def test_the_cache_in_place_computes_what_the_formulas_say(made: Path) -> None:
    expected = tiny.logits(tiny.CONFIG, tiny.weights(tiny.CONFIG), IDS)[-1]
    run = engine(made)
    for pieces in ([IDS], [IDS[:30], IDS[30:]], [IDS[:20], *([token] for token in IDS[20:])]):
        np.testing.assert_allclose(after(run, pieces), expected, atol=2e-4)
    run.close()


def test_a_graph_that_copies_its_cache_computes_the_same(made: Path) -> None:
    """As exporters without GroupQueryAttention make them; here the same graph, run that way."""
    expected = tiny.logits(tiny.CONFIG, tiny.weights(tiny.CONFIG), IDS)[-1]
    run = engine(made)
    object.__setattr__(run._graph, "in_place", False)
    np.testing.assert_allclose(after(run, [IDS[:20], [IDS[20]], IDS[21:]]), expected, atol=2e-4)
    seq = run.open()
    run.step([Chunk(seq, [*IDS[:20], 1, 2, 3], sample=False)])
    assert run.trim(seq, 20) == 20
    fork = run.fork(seq, 20)
    (row,) = run.step([Chunk(fork, IDS[20:], sample=True)])
    np.testing.assert_allclose(run.logits(row), expected, atol=2e-4)
    run.close()


def test_the_window_can_be_filled_to_its_last_cell(made: Path) -> None:
    weights = tiny.weights(tiny.CONFIG)
    ids = [40 + n % 400 for n in range(128)]
    expected = tiny.logits(tiny.CONFIG, weights, ids)[-1]
    run = engine(made)
    np.testing.assert_allclose(after(run, [ids[:64], ids[64:]]), expected, atol=2e-4)
    assert run.free_cells() == 0
    run.close()
    whole = engine(made, n_batch=128)
    np.testing.assert_allclose(after(whole, [ids]), expected, atol=2e-4)
    whole.close()


def test_half_precision_has_a_cache_of_halves(tiny_folder: Path, tmp_path: Path) -> None:
    run = engine(exported(tiny_folder, tmp_path / "half", F16), kv_type="f16")
    expected = tiny.logits(tiny.CONFIG, tiny.weights(tiny.CONFIG), IDS)[-1]
    assert np.abs(after(run, [IDS[:30], IDS[30:]]) - expected).max() < 0.05
    seq = run.open()
    run.step([Chunk(seq, IDS, sample=False)])
    layers, heads, d = 2, 2, 32
    assert run.state_size(seq) == len(IDS) * 2 * layers * heads * d * 2
    run.close()


def test_the_likeliest_token_is_the_same_by_either_way(made: Path) -> None:
    run = engine(made)
    seq = run.open()
    (row,) = run.step([Chunk(seq, IDS, sample=True)])
    plain = run.sampler(Sampling(temperature=0), IDS)
    biased = run.sampler(Sampling(temperature=0, logit_bias={3: 0.0}), IDS)
    best = int(run.logits(row).argmax())
    assert plain.sample(row).id == biased.sample(row).id == best
    assert (
        run.sampler(Sampling(temperature=0, logit_bias={best: -100.0}), []).sample(row).id != best
    )
    run.close()


# -- plans --------------------------------------------------------------------------------


def test_what_the_graph_decides_cannot_be_chosen(made: Path) -> None:
    header = read_onnx(made)
    options = plan(header, detect(), Chosen(threads=1)).options
    assert (options.threads, options.threads_batch, options.kv_type) == (1, 1, "f32")
    for chosen, said in (
        (Chosen(kv_type="q8_0"), "of type f32"),
        (Chosen(repack=True), "rearranges an ONNX model"),
        (Chosen(threads=1, threads_batch=2), "same threads"),
    ):
        with pytest.raises(UsageError, match=said):
            plan(header, detect(), chosen)
    with pytest.raises(EngineError, match="known: f32"):
        engine(made, kv_type="f16")


# -- damaged and hostile ------------------------------------------------------------------


def test_no_file_is_believed(copy: Path) -> None:
    graph = copy.read_bytes()
    weights = copy.with_name(f"{copy.name}_data")
    for content in (b"", b"garbage", graph[: len(graph) // 2]):
        copy.write_bytes(content)
        assert isinstance(refused(copy), DamagedModelError)
    copy.write_bytes(graph)
    os.truncate(weights, weights.stat().st_size // 2)
    assert isinstance(refused(copy), DamagedModelError)
    weights.unlink()
    assert isinstance(refused(copy), DamagedModelError)


@pytest.mark.parametrize("place", ["/etc/passwd", "../../../../../../etc/passwd", "../config.json"])
def test_weights_are_read_from_the_models_own_folder_only(copy: Path, place: str) -> None:
    model = onnx.load(copy, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = place
            elif entry.key == "offset":
                entry.value = "0"
    copy.write_bytes(model.SerializeToString())
    assert isinstance(refused(copy), DamagedModelError)


def test_a_link_out_of_the_folder_is_no_weights(copy: Path, tmp_path: Path) -> None:
    weights = copy.with_name(f"{copy.name}_data")
    weights.rename(tmp_path / "elsewhere")
    weights.symlink_to(tmp_path / "elsewhere")
    assert isinstance(refused(copy), DamagedModelError)


def test_a_graph_that_is_no_decoder_is_refused(copy: Path) -> None:
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "one"], ["y"])],
        "other",
        [value("x", TensorProto.FLOAT, [1])],
        [value("y", TensorProto.FLOAT, [1])],
        [numpy_helper.from_array(np.ones(1, np.float32), "one")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    copy.write_bytes(model.SerializeToString())
    assert "no language model" in str(refused(copy))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", "{"),
        ("config.json", "[]"),
        ("config.json", json.dumps({"hidden_size": -1})),
        ("config.json", json.dumps(tiny.CONFIG | {"vocab_size": 1 << 30})),
        ("config.json", "[" * 100_000),
        ("tokenizer.json", "{}"),
        ("tokenizer.json", "\x00"),
    ],
)
def test_damaged_documents_are_named(copy: Path, name: str, content: str) -> None:
    (copy.parent.parent / name).write_text(content)
    assert name in str(refused(copy))


@pytest.mark.parametrize(
    ("field", "value"),
    [("num_hidden_layers", 3), ("num_key_value_heads", 8), ("vocab_size", 100), ("head_dim", 16)],
)
def test_a_config_of_another_model_is_refused(copy: Path, field: str, value: int) -> None:
    path = copy.parent.parent / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: value}))
    assert field in str(refused(copy))


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_missing_documents_are_named(copy: Path, name: str) -> None:
    (copy.parent.parent / name).unlink()
    assert name in str(refused(copy))


def test_weights_that_shrink_under_it_end_the_engine_with_words(copy: Path) -> None:
    run = engine(copy)
    seq = run.open()
    run.step([Chunk(seq, IDS, sample=False)])
    weights = copy.with_name(f"{copy.name}_data")
    os.truncate(weights, 4096)
    with pytest.raises(ModelChangedError):
        run.step([Chunk(seq, IDS[:1], sample=True)])
    run.close()


def test_a_model_that_is_removed_stays_with_who_has_it_loaded(copy: Path) -> None:
    run = engine(copy)
    expected = after(run, [IDS])
    shutil.rmtree(copy.parent.parent)
    np.testing.assert_array_equal(after(run, [IDS]), expected)
    run.close()


def test_a_file_that_goes_before_it_is_loaded_is_named(copy: Path) -> None:
    header = read_onnx(copy)
    weights = copy.with_name(f"{copy.name}_data")
    weights.unlink()
    with pytest.raises(ModelError, match=f"{weights.name} cannot be read: No such file"):
        OnnxEngine(header, LoadOptions(128, 2, 64, 1, 1, "f32"))


def test_numbers_that_are_none_are_told(tiny_folder: Path, copy: Path) -> None:
    model = onnx.load(copy, load_external_data=False)
    norm = next(each for each in model.graph.initializer if each.name == "model.norm.weight")
    norm.CopyFrom(
        numpy_helper.from_array(np.full(tiny.CONFIG["hidden_size"], np.nan, np.float32), norm.name)
    )
    copy.write_bytes(model.SerializeToString())
    run = engine(copy)
    (row,) = run.step([Chunk(run.open(), IDS, sample=True)])
    for sampling in (Sampling(temperature=0), Sampling(seed=1)):
        with pytest.raises(EngineError, match="no numbers"):
            run.sampler(sampling, IDS).sample(row)
    run.close()
