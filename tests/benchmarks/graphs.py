"""Figure 14: ONNX exports against torch, onnxruntime-genai and its builder.

These want an environment of their own: LUCIE_CONVERT_PYTHON names a Python that has torch,
transformers and onnxruntime-genai; without it the figure is left out.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from edge.checkpoint import Checkpoint
from edge.engine import Chunk, LoadOptions
from edge.onnx_header import read_onnx
from edge.onnxrt import OnnxEngine
from quantize.ggml.dequantize import write_checkpoint
from quantize.graph.export import export
from quantize.graph.layout import write_layout
from quantize.graph.types import F32, Q4, Type
from tests.benchmarks.measure import Row, Target, interleave, run_json
from tests.benchmarks.referee import Referee
from tests.benchmarks.speed import engine_command

__all__ = ["graphs"]

_PEERS = Path(__file__).with_name("onnx_peers.py")
_STEPS = 64


def graphs(_: Referee, model: Path, runs: int) -> list[Row]:
    """Figure 14: is it the same model, and is it as fast as in the peer's own engine?"""
    python = os.environ.get("LUCIE_CONVERT_PYTHON")
    if python is None:
        sys.stderr.write("figure 14 wants LUCIE_CONVERT_PYTHON, a Python with genai and torch\n")
        return []
    peers = [python, str(_PEERS)]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "model"
        folder.mkdir()
        write_checkpoint(model, folder, "F32")
        apart = _apart(folder, _exported(folder, F32), peers)
        small = _exported(folder, Q4)
        built = Path(place) / "built"
        built.mkdir()
        subprocess.run([*peers, "build", folder, built], check=True, capture_output=True)
        ours, runs_alone, theirs, theirs_built = interleave(
            lambda: run_json(engine_command(small)),
            lambda: run_json([*peers, "bare", str(small)]),
            lambda: run_json([*peers, "genai", str(small.parent.parent)]),
            lambda: run_json([*peers, "genai", str(built)]),
            runs=runs,
        )
    same, its = "onnxruntime-genai, the same files", "onnxruntime-genai, its builder's int4"
    bound = Target(1, at_least=True)
    rows = [
        Row(14, f"{what} through the Engine", "tok/s", [run[name] for run in ours],
            [run[name] for run in peer], by, target)
        for what, name, peer, by, target in (
            ("decode", "tg", theirs, same, bound),
            ("decode", "tg", runs_alone, "ONNX Runtime's run of them, nothing else", None),
            ("prefill", "pp", theirs, same, bound),
            ("decode, output matrix of 8 bits (builder: 4)", "tg", theirs_built, its, None),
            ("prefill, output matrix of 8 bits (builder: 4)", "pp", theirs_built, its, None),
        )
    ]  # fmt: skip
    by = f"transformers in torch, float32, {_STEPS} steps with cache"
    return [Row(14, "largest difference of a logit", "", [apart], [], by,
                Target(1e-3, of="ours")), *rows]  # fmt: skip


def _exported(folder: Path, wanted: Type) -> Path:
    out = folder.with_name(wanted.name)
    (out / "onnx").mkdir(parents=True)
    checkpoint = Checkpoint.open(folder)
    graph = export(checkpoint, out / "onnx", wanted)
    write_layout(checkpoint, out, graph, wanted)
    return graph


def _apart(folder: Path, graph: Path, peers: list[str]) -> float:
    out = folder.with_name("torch.npy")
    subprocess.run([*peers, "logits", folder, str(_STEPS), out], check=True, capture_output=True)
    expected = np.load(out)
    options = LoadOptions(n_ctx=256, n_seq=1, n_batch=32, threads=2, threads_batch=2, kv_type="f32")
    engine = OnnxEngine(read_onnx(graph), options)
    seq, token, most = engine.open(), 1, 0.0
    for row in expected:
        (place,) = engine.step([Chunk(seq, [token], sample=True)])
        most = max(most, float(np.abs(engine.logits(place) - row).max()))
        token = int(row.argmax())
    engine.close()
    return most
