"""What is asked of the scheduler, and what it tells back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from edge.engine import Constraint, Sampled, Sampling
from edge.errors import LucieError

__all__ = [
    "Event",
    "Failed",
    "Finished",
    "Load",
    "Prefilled",
    "Queued",
    "Request",
    "Timings",
    "Token",
]


@dataclass(frozen=True, slots=True)
class Request:
    """One answer to compute."""

    prompt: Sequence[int]
    """[T] token ids, T ≥ 1."""
    max_tokens: int
    """Most tokens to choose; the window bounds it anyway."""
    sampling: Sampling = field(default_factory=Sampling)
    constraint: Constraint | None = None
    pinned: int = 0
    """Length of the system prompt, in tokens: a prefix worth keeping for other conversations."""
    reuse: bool = True
    """Whether KV states of the prompt may be taken from the cache. False: the prompt is
    evaluated whole, in a cache that is empty but for answers in progress, with all threads.
    Sums are then made in the same order, and alone, the same seed gives the same answer."""


@dataclass(frozen=True, slots=True)
class Timings:
    """What an answer cost; field names as in llama.cpp's server."""

    cache_n: int
    """Prompt tokens whose KV state was reused."""
    prompt_n: int
    """Prompt tokens that were evaluated."""
    prompt_ms: float
    predicted_n: int
    predicted_ms: float


@dataclass(frozen=True, slots=True)
class Load:
    """How busy the scheduler is."""

    active: int
    """Requests being computed."""
    waiting: int
    """Requests that wait for a place."""
    idle: int
    """Sequences that wait for the next turn of their conversation."""
    free_cells: int
    """KV cells that no sequence uses."""


@dataclass(frozen=True, slots=True)
class Queued:
    """All places are taken: it waits, behind so many others."""

    ahead: int


@dataclass(frozen=True, slots=True)
class Prefilled:
    """Prompt tokens known so far: `done` of `total`, of which `reused` were not computed."""

    done: int
    total: int
    reused: int


@dataclass(frozen=True, slots=True)
class Token:
    """One more token of the answer."""

    sampled: Sampled


@dataclass(frozen=True, slots=True)
class Finished:
    """The answer is complete: `stop` by an end token or grammar, `length` by a limit."""

    reason: Literal["stop", "length"]
    timings: Timings
    seed: int


@dataclass(frozen=True, slots=True)
class Failed:
    """No more comes, for this reason."""

    error: LucieError


Event = Queued | Prefilled | Token | Finished | Failed
