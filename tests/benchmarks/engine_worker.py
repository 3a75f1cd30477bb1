"""Measures the Engine in a process of its own: `python -m tests.benchmarks.engine_worker MODEL`.

Prints one JSON object, tokens per second: `pp` for a prompt, `tg` for decode with greedy
sampling, `tg_steps` for its steps alone. As llama-bench does, it warms up first and leaves
loading out; `tg_steps` leaves sampling out as well, as that does.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from edge.device import detect
from edge.header import read_model
from edge.loading import open_engine
from edge.plan import Chosen, plan
from edge.speed import measure_rates

__all__: list[str] = []


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
    header = read_model(asked.model)
    engine = open_engine(header, plan(header, detect(), chosen).options)
    try:
        measure_rates(engine, asked.n_prompt or 64, 2)  # warm-up, of full length as llama-bench's
        rates = measure_rates(engine, asked.n_prompt, asked.n_gen, asked.depth)
    finally:
        engine.close()
    named = {"pp": rates.prefill, "tg": rates.decode, "tg_steps": rates.decode_steps}
    sys.stdout.write(json.dumps({name: rate for name, rate in named.items() if rate}) + "\n")


if __name__ == "__main__":
    main()
