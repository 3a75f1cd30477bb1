"""optimum for real, in its environment of 2 GB: run when what concerns it has changed.

`optimum_run.json` says of which state of the code the last such run was. A test of another
state runs; `LUCIE_TEST_OPTIMUM=1 pytest tests/quantize/test_optimum.py` does it in any case,
and with `record` instead of 1 notes it there.
"""

from __future__ import annotations

import hashlib
import json
import os
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
RECORD = Path(__file__).with_name("optimum_run.json")
PEERS = sorted(Path(optimum.__file__).parent.glob("*.py"))
ASKED = os.environ.get("LUCIE_TEST_OPTIMUM")


def state() -> str:
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in PEERS)).hexdigest()


@pytest.mark.skipif(
    not ASKED and json.loads(RECORD.read_text())["state"] == state(),
    reason="optimum was run for real on this state (LUCIE_TEST_OPTIMUM=1 does it again)",
)
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
    if ASKED == "record":
        RECORD.write_text(json.dumps({"state": state(), "pins": optimum.PINS}, indent=1) + "\n")
