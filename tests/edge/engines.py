"""A real engine on the real model, small enough for tests, and ways to ask it."""

from __future__ import annotations

import queue
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edge.engine import Chunk, Engine, LoadOptions, Sampled, Sampling
from edge.kvstore import KVStore
from edge.llamacpp import LlamaEngine
from edge.onnxrt import OnnxEngine
from edge.request import Event, Failed, Finished, Prefilled, Request, Token
from edge.scheduler import Scheduler
from edge.ticket import Ticket

GREEDY = Sampling(temperature=0)
CLEAR = (
    "Please count from 1 to 20.",
    "Good morning!",
    "Hello! Hello! Hello! Hello!",
    "Count from 1 to 10.",
)
"""Questions to SmolLM2 under its own system prompt: for 12 tokens, the likeliest is at least 0.9
ahead of the next. Rounding depends on who else is in a batch, and can move that by 0.5."""
SMOL = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"


def options(**changes: Any) -> LoadOptions:
    """Load options for tests."""
    chosen: dict[str, Any] = {
        "n_ctx": 1024,
        "n_seq": 4,
        "n_batch": 128,
        "threads": 2,
        "threads_batch": 2,
    }
    return LoadOptions(**{**chosen, **changes})


def chatml(question: str, system: str = "You are a helpful assistant.") -> str:
    """A first turn as SmolLM2's template writes it."""
    return (
        f"<|im_start|>system\n{system}<|im_end|>\n"
        f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"
    )


def logits(engine: Engine, row: int) -> np.ndarray:
    """A copy of a row of the last step's logits, `[V]`."""
    if isinstance(engine, OnnxEngine):
        return engine.logits(row).copy()
    assert isinstance(engine, LlamaEngine)
    pointer = engine._api.llama_get_logits_ith(engine._context, row)
    return np.ctypeslib.as_array(pointer, (engine.spec.n_vocab,)).copy()


def prefill(engine: Engine, seq: int, ids: list[int]) -> np.ndarray:
    """The logits after `ids`, appended to a sequence in one step."""
    (row,) = engine.step([Chunk(seq, ids, sample=True)])
    return logits(engine, row)


@dataclass
class Answer:
    """Everything that the scheduler told about one request."""

    sampled: list[Sampled] = field(default_factory=list)
    margins: list[float] = field(default_factory=list)
    """Between the two likeliest log-probabilities, where they were asked for."""
    prefilled: list[Prefilled] = field(default_factory=list)
    end: Finished | Failed | None = None

    @property
    def tokens(self) -> list[int]:
        """The ids that were chosen."""
        return [sampled.id for sampled in self.sampled]

    @property
    def finished(self) -> Finished:
        """How it ended, where it ended well."""
        assert isinstance(self.end, Finished), self.end
        return self.end


class Asked:
    """One submitted request, whose events are collected."""

    def __init__(self, scheduler: Scheduler, request: Request) -> None:
        self.events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self.ticket: Ticket = scheduler.submit(request, self.events.put)

    def next(self) -> Event:
        """The next event; a scheduler that hangs fails the test."""
        return self.events.get(timeout=120)

    def answer(self) -> Answer:
        """All events to the end."""
        answer = Answer()
        while True:
            match self.next():
                case Token(sampled):
                    answer.sampled.append(sampled)
                    if len(sampled.top) > 1:
                        answer.margins.append(sampled.top[0][1] - sampled.top[1][1])
                case Prefilled() as prefilled:
                    answer.prefilled.append(prefilled)
                case Finished() | Failed() as end:
                    answer.end = end
                    return answer


def ask(scheduler: Scheduler, prompt: Sequence[int], max_tokens: int = 32, **more: Any) -> Asked:
    """Submit a greedy request."""
    more.setdefault("sampling", GREEDY)
    return Asked(scheduler, Request(prompt, max_tokens, **more))


@contextmanager
def scheduling(
    path: Path, store: KVStore | None = None, swap_bytes: int = 0, **changes: Any
) -> Iterator[tuple[Scheduler, LlamaEngine]]:
    """A scheduler over a real engine."""
    engine = LlamaEngine(path, options(**changes))
    scheduler = Scheduler(engine, engine.spec.n_parallel, store, swap_bytes)
    try:
        yield scheduler, engine
    finally:
        scheduler.close()
