"""The peak memory of the server's process with a model loaded.

    python -m tests.edge.memory_probe MODEL N_CTX KV_TYPE REPACK

prints VmHWM in bytes, after a full batch and one token: llama.cpp clears its KV cache, and so
touches all of it, when it is made.

    python -m tests.edge.memory_probe quantize MODEL OUT

writes a Q4_0 variant of MODEL to OUT.
"""

from __future__ import annotations

import sys
from pathlib import Path

# What the server's process holds beside the engine, once it has answered:
import jinja2.sandbox  # noqa: F401
import llguidance  # noqa: F401

import edge.server.process  # noqa: F401
from edge.engine import Chunk, LoadOptions
from edge.header import read_model
from edge.llamacpp.native import api
from edge.loading import open_engine
from tests.edge.header_probe import resident_peak

N_BATCH = 128
N_SEQ = 2


def options(n_ctx: int, kv_type: str, repack: bool) -> LoadOptions:
    """How the model is loaded."""
    return LoadOptions(
        n_ctx=n_ctx,
        n_seq=N_SEQ,
        n_batch=N_BATCH,
        threads=2,
        threads_batch=2,
        kv_type=kv_type,
        repack=repack,
    )


def run(model: Path, load: LoadOptions) -> None:
    """Load and compute."""
    engine = open_engine(read_model(model), load)
    seq = engine.open()
    # ONNX Runtime's cache takes memory only as it is filled.
    full = model.suffix == ".onnx"
    for _ in range(load.n_ctx // N_BATCH - 1 if full else 1):
        engine.step([Chunk(seq, range(1000, 1000 + N_BATCH), False)])
    engine.step([Chunk(seq, [1], True)])
    sys.stdout.write(f"{resident_peak()}\n")
    engine.close()


def quantize(model: Path, out: Path) -> None:
    """By llama.cpp's own quantizer, from weights that are quantized already."""
    params = api().llama_model_quantize_default_params()
    params.ftype = api().LLAMA_FTYPE_MOSTLY_Q4_0
    params.allow_requantize = True
    params.nthread = 2
    if api().llama_model_quantize(str(model).encode(), str(out).encode(), params):
        sys.exit("llama_model_quantize failed")


if __name__ == "__main__":
    first, *rest = sys.argv[1:]
    if first == "quantize":
        quantize(Path(rest[0]), Path(rest[1]))
    else:
        run(Path(first), options(int(rest[0]), rest[1], rest[2] == "True"))
