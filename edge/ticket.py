"""A request on its way through the scheduler."""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable
from typing import Literal

from edge.engine import Chunk, Sampler
from edge.held import Held
from edge.request import Event, Finished, Prefilled, Queued, Request, Timings

__all__ = ["Running", "Ticket"]


class Ticket:
    """A submitted request, to cancel it by. All else belongs to the engine's thread."""

    def __init__(self, request: Request, emit: Callable[[Event], None]) -> None:
        self.request = request
        self.emit = emit
        self.cancelled = False
        self.known = array("i", request.prompt)
        """The prompt and every token chosen so far."""
        self.sampler: Sampler | None = None
        self.started = 0.0
        self.first = 0.0
        self.reused = 0
        self.evaluated = 0
        self.overtaken = 0
        """How many that came later have begun before it."""
        self._ahead: int | None = None

    @property
    def chosen(self) -> int:
        """Tokens chosen so far."""
        return len(self.known) - len(self.request.prompt)

    def tell_queued(self, ahead: int) -> None:
        """Say how many are before it, where that has changed; not after it gave way."""
        if ahead != self._ahead and not self.chosen and not self.cancelled:
            self._ahead = ahead
            self.emit(Queued(ahead))

    def tell_prefill(self, done: int) -> None:
        """Say how much of the prompt is known; not while it is read again after giving way."""
        if not self.chosen:
            self.emit(Prefilled(done, len(self.request.prompt), self.reused))

    def finished(self, reason: Literal["stop", "length"], seed: int) -> Finished:
        """The closing event, as of now."""
        now = time.perf_counter()
        first = self.first or now
        timings = Timings(
            cache_n=self.reused,
            prompt_n=self.evaluated,
            prompt_ms=1000 * (first - self.started),
            predicted_n=self.chosen,
            predicted_ms=1000 * (now - first),
        )
        return Finished(reason, timings, seed)

    def close(self) -> None:
        """Free the sampler."""
        if self.sampler is not None:
            self.sampler.close()
            self.sampler = None


class Running:
    """A request that has a sequence."""

    def __init__(self, ticket: Ticket, held: Held, sampler: Sampler) -> None:
        self.ticket = ticket
        self.held = held
        self.sampler = sampler

    @property
    def missing(self) -> int:
        """Known tokens that are not evaluated yet: 1 while it decodes, more while it prefills."""
        return len(self.ticket.known) - len(self.held.tokens)

    def chunk(self, most: int) -> Chunk:
        """The next tokens, at most `most`; logits are wanted where they reach the end."""
        done = len(self.held.tokens)
        ids = self.ticket.known[done : done + most]
        return Chunk(self.held.seq, ids, sample=len(ids) == self.missing)
