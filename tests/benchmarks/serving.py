"""Figures 2, 3 and 6: through the server."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from tests.benchmarks import servers
from tests.benchmarks.measure import Row, Target, interleave, peak_mib, run_json
from tests.benchmarks.referee import Referee
from tests.benchmarks.servers import Server
from tests.benchmarks.speed import engine_command

__all__ = ["memory", "throughput", "waiting"]

_SERVER = "llama-server --parallel 4 -c 4096 -t 2"
_TOPICS = ("rivers", "bread", "stars", "bridges")
_N = 128


def throughput(programs: Referee, model: Path, runs: int) -> list[Row]:
    """Figure 2: one client against the Engine, four against llama-server."""
    fresh = _fresh_prompts()
    with (
        tempfile.TemporaryDirectory() as home,
        servers.lucie(model, Path(home)) as ours,
        servers.referee(programs, model) as theirs,
    ):
        for server in (ours, theirs):
            servers.ask(server, "Warm up.", 16)
        one, engine, one_there, four, four_there = interleave(
            lambda: servers.ask(ours, fresh()[0], _N).decode,
            lambda: run_json(engine_command(model, "-p", "0"))["tg"],
            lambda: servers.ask(theirs, fresh()[0], _N).decode,
            lambda: servers.ask_together(ours, fresh(), _N),
            lambda: servers.ask_together(theirs, fresh(), _N),
            runs=runs,
        )
    return [
        Row(
            figure=2,
            what="one client, decode, against the Engine's",
            unit="tok/s",
            ours=one,
            peer=engine,
            by="python -m tests.benchmarks.engine_worker MODEL -p 0",
            target=Target(0.95, at_least=True),
        ),
        Row(2, "one client, decode, against llama-server's", "tok/s", one, one_there, _SERVER),
        Row(
            figure=2,
            what="four clients together",
            unit="tok/s",
            ours=four,
            peer=four_there,
            by=_SERVER,
            target=Target(1.0, at_least=True),
        ),
    ]


def _fresh_prompts() -> Callable[[], list[str]]:
    """Prompts that no server has seen: each call gives four others."""
    count = 0

    def fresh() -> list[str]:
        nonlocal count
        count += 1
        return [f"Chapter {count} of a long book about {topic}. It begins:" for topic in _TOPICS]

    return fresh


def waiting(_: Referee, model: Path, runs: int) -> list[Row]:
    """Figure 3: what a long conversation waits for, in its second turn and after a restart."""
    second, alone, cold, restarted = [], [], [], []
    for run in range(runs):
        with tempfile.TemporaryDirectory() as folder:
            home = Path(folder)
            talk = [{"role": "user", "content": _history(run)}]
            with servers.lucie(model, home) as server:
                servers.ask(server, "Warm up.", 8)
                first = servers.ask(server, talk, 32)
                cold.append(first.first)
                talk += [_said(first.text), {"role": "user", "content": _question(run)}]
                answer = servers.ask(server, talk, 32)
                second.append(answer.first)
                new = answer.prompt_tokens - first.prompt_tokens - first.tokens
                time.sleep(7)  # KV states are written once the engine has been idle for a while
            depth = answer.prompt_tokens - new
            rate = run_json(engine_command(model, "-p", str(new), "-n", "0", "-d", str(depth)))
            alone.append(new / rate["pp"])
            talk += [_said(answer.text), {"role": "user", "content": _question(run + 1)}]
            with servers.lucie(model, home) as server:
                servers.ask(server, "Warm up.", 8)
                restarted.append(servers.ask(server, talk, 8).first)
    return [
        Row(
            figure=3,
            what="first token of the second turn, against prefilling what is new",
            unit="s",
            ours=second,
            peer=alone,
            by="python -m tests.benchmarks.engine_worker MODEL -p NEW -d DEPTH -n 0",
            target=Target(1.1),
        ),
        Row(
            figure=3,
            what="first token after a restart, against a cold start",
            unit="s",
            ours=restarted,
            peer=cold,
            by="the same conversation, new to the server",
            target=Target(0.15),
        ),
    ]


def _said(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def _history(run: int) -> str:
    """Some 1,000 tokens."""
    lines = (f"Note {n} of notebook {run}: the river rose by {n} cm today." for n in range(1, 60))
    return "\n".join(lines)


def _question(run: int) -> str:
    return (
        f"Thank you. Now, question {run}: which of these notes speaks of the highest water, how do "
        "you know, and what would you tell a fisherman who wants to cross there tomorrow?"
    )


def memory(programs: Referee, model: Path, runs: int) -> list[Row]:
    """Figure 6, the engine's process: peak after a long prompt and four answers at once."""
    fresh = _fresh_prompts()

    def peak(start: Callable[[], AbstractContextManager[Server]]) -> Callable[[], float]:
        def measure() -> float:
            with start() as server:
                servers.ask(server, _history(0), 16)
                servers.ask_together(server, fresh(), 32)
                return peak_mib(server.pid)

        return measure

    with tempfile.TemporaryDirectory() as home:
        ours, theirs = interleave(
            peak(lambda: servers.lucie(model, Path(home))),
            peak(lambda: servers.referee(programs, model, unified=True)),
            runs=max(2, runs // 2),
        )
    return [
        Row(
            figure=6,
            what="engine process, peak memory",
            unit="MiB",
            ours=ours,
            peer=theirs,
            by=f"{_SERVER} --kv-unified",
            target=Target(60, of="difference"),
        )
    ]
