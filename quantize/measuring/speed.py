"""How fast a model is here, and how much memory it takes: through the product's own engine.

Each run is a process of its own, so that its peak memory is that of one model alone, and the
models take turns, so that what else the machine does meets all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median, stdev

from edge.device import detect
from edge.header import read_model
from edge.loading import open_engine
from edge.plan import Chosen, plan
from edge.progress import Count, Progress
from edge.speed import Rates, measure_rates, peak_memory
from quantize.errors import QuantizeError
from quantize.own_process import DiedError, Tell, in_own_process

__all__ = ["N_GEN", "N_PROMPT", "Speed", "conditions", "measure_speed"]

N_PROMPT, N_GEN = 512, 128
"""llama-bench's pp512 and tg128, by which figures are posted."""
_N_CTX = 1024


@dataclass(frozen=True, slots=True)
class Speed:
    """Medians over the runs, and how far these are apart."""

    prefill: float
    """Tokens per second of a prompt of 512; of one that fits, where the window is smaller."""
    prefill_spread: float
    """Standard deviation of the runs, as llama-bench gives it; 0 of one run."""
    decode: float
    """Tokens per second of 128, greedy, sampling included."""
    decode_spread: float
    """Likewise."""
    peak_rss: int
    """Bytes of the process at most, with a context of 1,024 tokens."""
    runs: int


def measure_speed(
    models: Sequence[Path], threads: int = 0, runs: int = 3, progress: Progress | None = None
) -> list[Speed]:
    """Measure each model, loaded as the product loads it on this device.

    Args:
        models: model files.
        threads: threads to compute with; 0: as the product chooses.
        runs: of each model.
        progress: called with runs done.

    Raises:
        LucieError: a model cannot be loaded here.
    """
    found: list[list[tuple[Rates, int]]] = [[] for _ in models]
    count = Count(runs * len(models), progress)
    for _ in range(runs):
        for model, results in zip(models, found, strict=True):
            results.append(_run(model, threads))
            count.add(1)
    return [
        Speed(
            prefill=median(rates.prefill for rates, _ in results),
            prefill_spread=_spread([rates.prefill for rates, _ in results]),
            decode=median(rates.decode for rates, _ in results),
            decode_spread=_spread([rates.decode for rates, _ in results]),
            peak_rss=max(peak for _, peak in results),
            runs=runs,
        )
        for results in found
    ]


def conditions(threads: int = 0) -> str:
    """What figures depend on beside the model: this processor, threads, the engine's build.

    Args:
        threads: as `measure_speed` is told.

    Raises:
        LucieError: the engine cannot be loaded here.
    """
    cpu = detect().cpu
    try:
        engine: str = in_own_process(_build)
    except DiedError as error:
        raise QuantizeError("compare.died", path="llama.cpp", how=error.how) from error
    return f"{cpu.name} ({cpu.arch}), {threads} of {cpu.cores}/{cpu.threads} threads, {engine}"


def _build(_: Tell) -> str:
    from edge.llamacpp.native import build

    return build()


def _spread(values: Sequence[float]) -> float:
    return stdev(values) if len(values) > 1 else 0.0


def _run(model: Path, threads: int) -> tuple[Rates, int]:
    try:
        found: tuple[Rates, int] = in_own_process(_measure, model, threads)
    except DiedError as error:
        raise QuantizeError("compare.died", path=str(model), how=error.how) from error
    return found


def _measure(_: Tell, model: Path, threads: int) -> tuple[Rates, int]:
    header = read_model(model)
    n_ctx = min(_N_CTX, header.n_ctx_train)
    chosen = Chosen(n_ctx=n_ctx, threads=threads or None, threads_batch=threads or None)
    engine = open_engine(header, plan(header, detect(), chosen).options)
    n_prompt, n_gen = min(N_PROMPT, n_ctx // 2), min(N_GEN, n_ctx // 2)
    try:
        measure_rates(engine, n_prompt, 2)  # as llama-bench warms up
        return measure_rates(engine, n_prompt, n_gen), peak_memory()
    finally:
        engine.close()
