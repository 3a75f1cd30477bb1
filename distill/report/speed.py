"""How large models are as GGUF files, and how fast: here, measured, and on boards, predicted."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path

from distill.planning.boards import boards
from distill.planning.speed import predict
from distill.report.entries import Here, Part, Rates
from distill.report.kept import kept
from edge.checkpoint import Checkpoint
from edge.llama_config import LlamaConfig
from pretrain.disk import written
from pretrain.run import Stage
from quantize.ggml.export import export, widest
from quantize.ggml.quantizer import QuantizeOptions, quantize
from quantize.measuring.speed import Conditions, Speed, conditions, measure_speed

__all__ = ["Measured", "Speeds", "measure_here", "predicted"]

_NAME = "speed-"


class Measured(Part):
    """Of a file that was made for it."""

    file_bytes: int
    here: Rates


class Speeds(Part):
    """Of several models."""

    here: Here
    """Where and how they were measured."""
    models: tuple[Measured, ...]
    """In order."""


def measure_here(
    models: Sequence[Path], quantization: str, folder: Path, threads: int, stage: Stage
) -> Speeds:
    """Export models of different shapes, and have the product's own engine read and write with
    each in turn: what else the machine does meets all of them.

    What was measured of the same shapes once is read again, where threads, processor and engine are
    the same; what was exported when somebody interrupted it is not exported again, unless something
    else is asked for then.
    Whether the files are faithful is not asked: that is for `lucie quantize`.

    Args:
        models: their folders, in Hugging Face's layout.
        quantization: a type of llama.cpp's quantizer, as `Q4_0`.
        folder: where it is kept, of which nobody else makes use.
        threads: to compute with; 0: as the product chooses.
        stage: told what is being done.

    Raises:
        LucieError: one cannot be exported, or not be run here.
    """
    opened = [Checkpoint.open(model) for model in models]
    shapes = (model.config.model_dump_json() for model in opened)
    given = conditions()
    what = "\n".join([quantization, str(threads), repr(given), *shapes])
    name = f"{_NAME}{hashlib.sha256(what.encode()).hexdigest()[:8]}"
    exports = folder / name

    def measured() -> Speeds:
        with written(exports):
            for left in folder.glob(f"{_NAME}*/"):
                if left != exports:  # of what was interrupted, and is not wanted any more
                    shutil.rmtree(left)
            exports.mkdir(parents=True, exist_ok=True)
            progress = stage("report-export")
            files = []
            for n, model in enumerate(opened):
                progress(n, len(opened))
                files.append(_export(model, quantization, exports / f"{n}.gguf", threads))
            progress(len(opened), len(opened))
        speeds = measure_speed(files, threads, progress=stage("report-speed"))
        here = _here(given, speeds[0])
        return Speeds(here=here, models=tuple(map(_measured, files, speeds)))

    found = kept(folder / f"{name}.json", Speeds, measured)
    shutil.rmtree(exports, ignore_errors=True)
    return found


def _export(model: Checkpoint, quantization: str, file: Path, threads: int) -> Path:
    """Make the file, all of it or none, where it is not there yet."""
    if not file.exists():
        whole, draft = file.with_suffix(".whole"), file.with_suffix(".part")
        for left in (whole, draft):  # by what was interrupted
            left.unlink(missing_ok=True)
        export(model, whole, widest(model))
        quantize(whole, draft, QuantizeOptions(quantization, threads=threads))
        whole.unlink()
        draft.replace(file)
    return file


def _here(given: Conditions, speed: Speed) -> Here:
    return Here(
        machine=given.machine,
        engine=given.engine,
        threads=speed.threads,
        threads_batch=speed.threads_batch,
        n_prompt=speed.n_prompt,
        n_gen=speed.n_gen,
    )


def _measured(file: Path, speed: Speed) -> Measured:
    here = Rates(
        prefill=speed.prefill,
        decode=speed.decode,
        prefill_spread=speed.prefill_spread,
        decode_spread=speed.decode_spread,
    )
    return Measured(file_bytes=file.stat().st_size, here=here)


def predicted(config: LlamaConfig, quantization: str, context: int) -> dict[str, Rates]:
    """On each board that is known; nothing for a type that plans do not reckon with."""
    found = {}
    for name, board in boards().items():
        speed = predict(config, quantization, board, context)
        found[name] = Rates(
            prefill=speed.prefill,
            decode=speed.decode,
            prefill_measured=speed.prefill_measured,
        )
    return found
