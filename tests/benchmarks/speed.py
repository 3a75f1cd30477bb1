"""Figures 1 and 5: the Engine against llama-bench, alone and with a busy neighbour."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.benchmarks.measure import Row, Target, busy_core, interleave, run_json
from tests.benchmarks.referee import Referee

__all__ = ["engine", "engine_command", "neighbour"]

_THREADS = ("-t", "2")
_OURS = ("-b", "256", "-ub", "256", "-fa", "1")
_BENCH = "llama-bench -t 2 -r 1"
_DEFAULT = "LD_LIBRARY_PATH=…/openmp " + _BENCH


def engine_command(model: Path, *options: str) -> list[str]:
    """Measures the Engine in a process of its own."""
    worker = "tests.benchmarks.engine_worker"
    return [sys.executable, "-m", worker, str(model), *_THREADS, *options]


def _bench(
    programs: Referee, model: Path, *options: str, env: Mapping[str, str] | None = None
) -> dict[str, float]:
    command = [str(programs.bench), "-m", str(model), *_THREADS, "-r", "1", "-o", "json", *options]
    tests: list[dict[str, Any]] = run_json(command, env)
    return {"pp" if test["n_prompt"] else "tg": test["avg_ts"] for test in tests}


def engine(programs: Referee, model: Path, runs: int) -> list[Row]:
    """Figure 1: a prompt of 512 tokens, and 128 tokens of decode.

    llama-bench's own step is 512 tokens long, without flash attention; the product's is 256,
    so that nobody waits long behind a prompt, with it, as that takes less memory. So each is
    also measured with the other's settings.
    """
    ours, theirs, ours_512, theirs_256 = interleave(
        lambda: run_json(engine_command(model)),
        lambda: _bench(programs, model, "-p", "512", "-n", "128"),
        lambda: run_json(engine_command(model, "-n", "0", "-b", "512")),
        lambda: _bench(programs, model, "-p", "512", "-n", "0", *_OURS),
        runs=runs,
    )
    decode, prefill = Target(0.98, at_least=True), Target(0.97, at_least=True)
    return [
        Row(
            figure=1,
            what=f"{what} through the Engine",
            unit="tok/s",
            ours=[run[name] for run in mine],
            peer=[run[name.partition("_")[0]] for run in peer],
            by=f"{_BENCH} {options}",
            target=bound,
        )
        for what, name, mine, peer, options, bound in (
            ("decode", "tg", ours, theirs, "-p 0 -n 128", decode),
            ("decode without sampling", "tg_steps", ours, theirs, "-p 0 -n 128", decode),
            ("prefill", "pp", ours, theirs, "-p 512 -n 0", prefill),
            ("prefill in steps of 512", "pp", ours_512, theirs, "-p 512 -n 0", prefill),
            ("prefill", "pp", ours, theirs_256, f"-p 512 -n 0 {' '.join(_OURS)}", prefill),
        )
    ]


def neighbour(programs: Referee, model: Path, runs: int) -> list[Row]:
    """Figure 5: decode while another process keeps one core busy."""

    def ours() -> float:
        return float(run_json(engine_command(model, "-p", "0"))["tg"])

    def default(n: int) -> float:
        env = programs.openmp
        return _bench(programs, model, "-p", "0", "-n", str(n), env=env)["tg"]

    def beside_neighbour(*programs: Any) -> list[float]:
        with busy_core():
            return [program() for program in programs]

    idle, default_idle, busy = interleave(
        ours,
        lambda: default(128),
        # The default build takes a minute for what takes a second when it is alone.
        lambda: beside_neighbour(ours, lambda: default(32)),
        runs=runs,
    )
    ours_busy, default_busy = ([run[i] for run in busy] for i in (0, 1))
    return [
        Row(
            figure=5,
            what="decode with one core busy, against idle",
            unit="tok/s",
            ours=ours_busy,
            peer=idle,
            by="python -m tests.benchmarks.engine_worker MODEL -p 0",
            target=Target(0.4, at_least=True),
        ),
        Row(
            figure=5,
            what="the same in llama-cpp-python's default build (its busy as ours, idle as peer)",
            unit="tok/s",
            ours=default_busy,
            peer=default_idle,
            by=f"{_DEFAULT} -p 0 -n 32",
        ),
        Row(
            figure=5,
            what="idle decode against the default build",
            unit="tok/s",
            ours=idle,
            peer=default_idle,
            by=f"{_DEFAULT} -p 0 -n 128",
            target=Target(0.97, at_least=True),
        ),
    ]
