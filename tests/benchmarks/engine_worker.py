"""Measures the Engine in a process of its own: `python -m tests.benchmarks.engine_worker MODEL`.

Prints one JSON object, tokens per second: `pp` for a prompt, `tg` for decode with greedy
sampling, `tg_steps` for its steps alone. As llama-bench does, it warms up first and leaves
loading out; `tg_steps` leaves sampling out as well, as that does.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from pathlib import Path

from edge.device import detect
from edge.engine import Chunk, Engine, Sampling
from edge.gguf_header import read_header
from edge.llamacpp.engine import LlamaEngine
from edge.plan import Chosen, plan

__all__: list[str] = []


def prefill(engine: Engine, seq: int, ids: list[int]) -> int:
    """Read `ids` in steps as long as the engine takes; returns the row of logits after them."""
    row = -1
    for start in range(0, len(ids), engine.spec.n_batch):
        piece = ids[start : start + engine.spec.n_batch]
        (row,) = engine.step([Chunk(seq, piece, sample=start + len(piece) == len(ids))])
    return row


def decode(engine: Engine, seq: int, n: int) -> float:
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


def measure(engine: Engine, n_prompt: int, n_gen: int, depth: int) -> dict[str, float]:
    """Tokens per second behind `depth` tokens that are in the cache already."""
    draw = random.Random(0)

    def some(n: int) -> list[int]:
        return [draw.randrange(engine.spec.n_vocab) for _ in range(n)]

    rates = {}
    for name, n in (("pp", n_prompt), ("tg", n_gen)):
        if n == 0:
            continue
        seq = engine.open()
        if depth:
            prefill(engine, seq, some(depth))
        began = time.perf_counter()
        if name == "pp":
            prefill(engine, seq, some(n))
            rates["pp"] = n / (time.perf_counter() - began)
        else:
            sampling = decode(engine, seq, n)
            took = time.perf_counter() - began
            rates |= {"tg": n / took, "tg_steps": n / (took - sampling)}
        engine.close_seq(seq)
    return rates


def main() -> None:
    """Load as the product would, but for the threads; measure; print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("-t", "--threads", type=int, default=2)
    parser.add_argument("-p", "--n-prompt", type=int, default=512)
    parser.add_argument("-n", "--n-gen", type=int, default=128)
    parser.add_argument("-d", "--depth", type=int, default=0)
    parser.add_argument("-b", "--batch-size", type=int, help="default: as the product would")
    asked = parser.parse_args()
    n_ctx = asked.depth + max(asked.n_prompt, asked.n_gen) + 64
    chosen = Chosen(
        n_ctx=n_ctx + -n_ctx % 256,
        n_batch=asked.batch_size,
        threads=asked.threads,
        threads_batch=asked.threads,
    )
    options = plan(read_header(asked.model), detect(), chosen).options
    engine = LlamaEngine(asked.model, options)
    try:
        measure(engine, asked.n_prompt or 64, 2, 0)  # warm-up, of full length as llama-bench has it
        rates = measure(engine, asked.n_prompt, asked.n_gen, asked.depth)
    finally:
        engine.close()
    sys.stdout.write(json.dumps(rates) + "\n")


if __name__ == "__main__":
    main()
