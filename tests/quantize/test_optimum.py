"""optimum for real, in its environment of 2 GB."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge.checkpoint import Checkpoint
from edge.engine import Chunk, LoadOptions
from edge.onnx_header import read_onnx
from edge.onnxrt import OnnxEngine
from edge.paths import cache_dir
from quantize.graph.layout import write_layout
from quantize.graph.types import F32
from quantize.peers import environment, optimum
from tests.quantize import tiny

CACHE = cache_dir()  # the user's own, before LUCIE_HOME is moved


@pytest.mark.long("quantize/peers")
def test_optimums_graph_runs_in_the_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "cache_dir", lambda: CACHE)
    weights = tiny.weights(tiny.CONFIG)
    checkpoint = Checkpoint.open(tiny.write(tmp_path / "model", tiny.CONFIG, weights))
    out = tmp_path / "out"
    (out / "onnx").mkdir(parents=True)
    graph = optimum.export(checkpoint, out / "onnx")
    assert [file.name for file in (out / "onnx").iterdir()] == ["model.onnx"]
    write_layout(checkpoint, out, graph, F32, positions=True)
    options = LoadOptions(n_ctx=64, n_seq=1, n_batch=64, threads=2, threads_batch=2, kv_type="f32")
    engine = OnnxEngine(read_onnx(graph), options)
    ids = list(range(40, 80))
    seq = engine.open()
    for piece in (ids[:20], ids[20:21], ids[21:]):
        (row,) = engine.step([Chunk(seq, piece, sample=True)])
    np.testing.assert_allclose(
        engine.logits(row), tiny.logits(tiny.CONFIG, weights, ids)[-1], atol=1e-3
    )
    engine.close()
