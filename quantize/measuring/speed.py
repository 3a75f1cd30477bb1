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

__all__ = ["Conditions", "Speed", "conditions", "measure_speed"]

_N_PROMPT, _N_GEN = 512, 128
"""llama-bench's pp512 and tg128, by which figures are posted."""
_N_CTX = 1024


@dataclass(frozen=True, slots=True)
class Speed:
    """Medians over the runs, and how far these are apart."""

    prefill: float
    """Tokens per second of a prompt."""
    prefill_spread: float
    """Standard deviation of the runs, as llama-bench gives it; 0 of one run."""
    decode: float
    """Tokens per second of an answer, greedy, sampling included."""
    decode_spread: float
    """Likewise."""
    peak_rss: int
    """Bytes of the process at most, with a context of 1,024 tokens; of the smallest window of all
    models, where that is smaller."""
    runs: int
    n_prompt: int
    """Tokens of the prompt: 512, or as many as the smallest window has."""
    n_gen: int
    """Tokens of the answer: 128, or likewise."""
    threads: int
    """For decode."""
    threads_batch: int
    """For prefill."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """What figures depend on beside the model, and the threads that are asked for."""

    machine: str
    """Board, where it is a Raspberry Pi, and processor."""
    cores: int
    """That this process may use."""
    processors: int
    """Logical ones, likewise."""
    engine: str
    """Its build."""


@dataclass(frozen=True, slots=True)
class _Ran:
    rates: Rates
    peak_rss: int
    threads: int
    threads_batch: int


def measure_speed(
    models: Sequence[Path], threads: int = 0, runs: int = 3, progress: Progress | None = None
) -> list[Speed]:
    """Measure each model, loaded as the product loads it on this device; all with as many tokens.

    Args:
        models: model files.
        threads: threads to compute with; 0: as the product chooses.
        runs: of each model.
        progress: called with runs done.

    Raises:
        LucieError: a model cannot be loaded here.
    """
    n_ctx = min([_N_CTX, *(read_model(model).n_ctx_train for model in models)])
    n_prompt, n_gen = min(_N_PROMPT, n_ctx), min(_N_GEN, n_ctx)
    chosen = Chosen(n_ctx=n_ctx, threads=threads or None, threads_batch=threads or None)
    found: list[list[_Ran]] = [[] for _ in models]
    count = Count(runs * len(models), progress)
    for _ in range(runs):
        for model, results in zip(models, found, strict=True):
            results.append(_run(model, chosen, n_prompt, n_gen))
            count.add(1)
    return [
        Speed(
            prefill=median(ran.rates.prefill for ran in results),
            prefill_spread=_spread([ran.rates.prefill for ran in results]),
            decode=median(ran.rates.decode for ran in results),
            decode_spread=_spread([ran.rates.decode for ran in results]),
            peak_rss=max(ran.peak_rss for ran in results),
            runs=runs,
            n_prompt=n_prompt,
            n_gen=n_gen,
            threads=results[0].threads,
            threads_batch=results[0].threads_batch,
        )
        for results in found
    ]


def conditions() -> Conditions:
    """Those of this machine.

    Raises:
        LucieError: the engine cannot be loaded here.
    """
    device = detect()
    cpu, board = device.cpu, device.board if device.is_pi else ""
    try:
        engine: str = in_own_process(_build)
    except DiedError as error:
        raise QuantizeError("compare.died", path="llama.cpp", how=error.how) from error
    machine = ", ".join(filter(None, (board, cpu.name, cpu.arch)))
    return Conditions(machine, cpu.cores, cpu.threads, engine)


def _build(_: Tell) -> str:
    from edge.llamacpp.native import build

    return build()


def _spread(values: Sequence[float]) -> float:
    return stdev(values) if len(values) > 1 else 0.0


def _run(model: Path, chosen: Chosen, n_prompt: int, n_gen: int) -> _Ran:
    try:
        found: _Ran = in_own_process(_measure, model, chosen, n_prompt, n_gen)
    except DiedError as error:
        raise QuantizeError("compare.died", path=str(model), how=error.how) from error
    return found


def _measure(_: Tell, model: Path, chosen: Chosen, n_prompt: int, n_gen: int) -> _Ran:
    header = read_model(model)
    options = plan(header, detect(), chosen).options
    engine = open_engine(header, options)
    try:
        measure_rates(engine, n_prompt, 2)  # as llama-bench warms up
        rates = measure_rates(engine, n_prompt, n_gen)
        return _Ran(rates, peak_memory(), options.threads, options.threads_batch)
    finally:
        engine.close()
