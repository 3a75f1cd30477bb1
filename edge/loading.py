"""From a model file to a loaded engine: checked, planned for this device, not too large."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

from edge.device import detect
from edge.engine import Engine, LoadOptions
from edge.header import Header, read_model
from edge.kvstore import KVStore, kv_store_bytes, kv_store_dir
from edge.llamacpp import LlamaEngine
from edge.plan import Chosen, plan

__all__ = ["Ready", "fingerprint", "load", "open_engine"]

_SAMPLES = 64


class Ready(NamedTuple):
    """A loaded model, and where the KV states of its conversations wait."""

    engine: Engine
    store: KVStore
    """On disk."""
    swap_bytes: int
    """How much RAM beside the engine's they may take."""


def load(path: Path, chosen: Chosen, progress: Callable[[float], None] | None = None) -> Ready:
    """Load a model as this device can run it best.

    Args:
        path: a GGUF or ONNX file, which is not trusted.
        chosen: what the user decided about it.
        progress: told the loaded fraction, 0 to 1.

    Raises:
        ModelError: the file is damaged, or of a kind that is not understood.
        MemoryRefusedError: it would not fit.
        EngineError: the engine refuses it.
        UsageError: a setting is no number.
    """
    header = read_model(path)
    made = plan(header, detect(), chosen)
    bound = kv_store_bytes()
    engine = open_engine(header, made.options, progress)
    spec = asdict(engine.spec)
    key = [fingerprint(file) for file in _files(header)] + [
        f"{name}={spec[name]}" for name in ("engine", "kv_type")
    ]
    return Ready(engine, KVStore(kv_store_dir(), "\n".join(key), bound), made.swap)


def open_engine(
    header: Header, options: LoadOptions, progress: Callable[[float], None] | None = None
) -> Engine:
    """The engine that runs files of that format, with the model loaded.

    Raises:
        ModelError: it refuses the file.
        EngineError: it is not installed, or does not offer what is asked for.
    """
    if header.format == "ONNX":
        from edge.onnxrt import OnnxEngine

        return OnnxEngine(header, options, progress)
    return LlamaEngine(header.path, options, progress)


def _files(header: Header) -> tuple[Path, ...]:
    return header.files if header.format == "ONNX" else (header.path,)


def fingerprint(path: Path) -> str:
    """A hash that tells model files apart, without reading gigabytes at every start.

    It covers size, time of change, both ends (the header with the tokenizer stands
    at the start) and samples in between.
    """
    stat = path.stat()
    digest = hashlib.sha256(f"{stat.st_size} {stat.st_mtime_ns}".encode())
    with path.open("rb") as file:
        digest.update(file.read(4 << 20))
        for n in range(_SAMPLES + 1):
            file.seek(max(0, (stat.st_size - 4096) * n // _SAMPLES))
            digest.update(file.read(4096))
    return digest.hexdigest()
