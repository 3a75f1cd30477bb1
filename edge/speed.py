"""How fast an engine reads and writes, measured as llama-bench does (`pp` and `tg`)."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from pathlib import Path

from edge.engine import Chunk, Engine, Sampling

__all__ = ["Rates", "measure_rates", "peak_memory"]


@dataclass(frozen=True, slots=True)
class Rates:
    """Tokens per second."""

    prefill: float
    """Of a prompt."""
    decode: float
    """Of greedy decode, one token after the other."""
    decode_steps: float
    """The same without the time that choosing took, which llama-bench leaves out, too."""


def measure_rates(engine: Engine, n_prompt: int, n_gen: int, depth: int = 0) -> Rates:
    """Read `n_prompt` tokens, and then, from an empty sequence again, write `n_gen`.

    Args:
        engine: has at least depth + n_prompt and depth + n_gen cells.
        n_prompt: tokens of the prompt; 0: prefill is not measured, and is 0.
        n_gen: tokens to decode; 0: decode is not measured, and is 0.
        depth: tokens that are in the cache already.
    """
    draw = random.Random(0)

    def some(n: int) -> list[int]:
        return [draw.randrange(engine.spec.n_vocab) for _ in range(n)]

    prefill = decode = steps = 0.0
    if n_prompt:
        seq = _deep(engine, some(depth))
        began = time.perf_counter()
        _prefill(engine, seq, some(n_prompt))
        prefill = n_prompt / (time.perf_counter() - began)
        engine.close_seq(seq)
    if n_gen:
        seq = _deep(engine, some(depth))
        began = time.perf_counter()
        sampling = _decode(engine, seq, n_gen)
        took = time.perf_counter() - began
        decode, steps = n_gen / took, n_gen / (took - sampling)
        engine.close_seq(seq)
    return Rates(prefill, decode, steps)


def peak_memory() -> int:
    """Largest resident memory of this process so far, in bytes (VmHWM of Linux)."""
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


def _deep(engine: Engine, ids: list[int]) -> int:
    seq = engine.open()
    if ids:
        _prefill(engine, seq, ids)
    return seq


def _prefill(engine: Engine, seq: int, ids: list[int]) -> None:
    """Read `ids` in steps as long as the engine takes."""
    for start in range(0, len(ids), engine.spec.n_batch):
        piece = ids[start : start + engine.spec.n_batch]
        engine.step([Chunk(seq, piece, sample=start + len(piece) == len(ids))])


def _decode(engine: Engine, seq: int, n: int) -> float:
    """Choose `n` tokens, each from the step of the one before; seconds that choosing took."""
    sampler = engine.sampler(Sampling(temperature=0), [0])
    token = 1
    sampling = 0.0
    for _ in range(n):
        (row,) = engine.step([Chunk(seq, [token], sample=True)])
        began = time.perf_counter()
        token = sampler.sample(row).id
        sampling += time.perf_counter() - began
    sampler.close()
    return sampling
