"""How large a model is as a GGUF file, and how fast: here, measured, and on boards, predicted."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from distill.planning.boards import boards
from distill.planning.speed import predict
from distill.report.entries import Rates
from edge.checkpoint import Checkpoint
from edge.llama_config import LlamaConfig
from edge.progress import Progress
from quantize.ggml.export import export, widest
from quantize.ggml.quantizer import QuantizeOptions, quantize
from quantize.measuring.speed import measure_speed

__all__ = ["Measured", "measure_here", "predicted"]


@dataclass(frozen=True, slots=True)
class Measured:
    """Of a file that was made for it."""

    file_bytes: int
    here: Rates


def measure_here(
    folder: Path, quantization: str, draft: Path, threads: int, progress: Progress
) -> Measured:
    """Export a model, and have the product's own engine read and write with it.

    Whether the file is faithful is not asked: that is for `lucie quantize`.

    Args:
        folder: the model, in Hugging Face's layout.
        quantization: a type of llama.cpp's quantizer, as `Q4_0`.
        draft: an empty folder for the file, which is gone afterwards.
        threads: to compute with; 0: as the product chooses.
        progress: called with runs done and all of them.

    Raises:
        LucieError: it cannot be exported, or not be run here.
    """
    checkpoint = Checkpoint.open(folder)
    whole, small = draft / "whole.gguf", draft / "small.gguf"
    try:
        export(checkpoint, whole, widest(checkpoint))
        quantize(whole, small, QuantizeOptions(quantization, threads=threads))
        whole.unlink()
        (speed,) = measure_speed([small], threads, progress=progress)
        return Measured(small.stat().st_size, Rates(prefill=speed.prefill, decode=speed.decode))
    finally:
        for file in (whole, small):
            file.unlink(missing_ok=True)


def predicted(config: LlamaConfig, quantization: str, context: int) -> dict[str, Rates]:
    """On each board that is known; nothing for a type that plans do not reckon with."""
    found = {}
    for name, board in boards().items():
        speed = predict(config, quantization, board, context)
        found[name] = Rates(prefill=speed.prefill, decode=speed.decode)
    return found
