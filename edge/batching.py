"""Which tokens a step evaluates, so that a long prompt does not stop the others' streams.

Prompts are read in pieces beside answers (Sarathi-Serve's chunked prefills, OSDI 2024), whose size
follows from how long the steps before took.
"""

from __future__ import annotations

from collections.abc import Sequence

from edge.engine import Chunk
from edge.ticket import Running

__all__ = ["Batching"]

_SHARED_STEP_S = 0.2
"""How long a step may take in which a prompt is read beside streams: five tokens a second."""
_LEAST_SHARED = 8
"""Fewer tokens of a prompt than this would hardly make a step shorter."""


class Batching:
    """Makes batches.

    Args:
        n_batch: tokens of a step at most.
    """

    def __init__(self, n_batch: int) -> None:
        self._n_batch = n_batch
        # While others stream, a long prompt takes so many tokens of a step: at first an
        # eighth of a full one, and fewer on a slow board.
        self._shared = self._most_shared = max(16, n_batch // 8)

    def plan(self, active: Sequence[Running]) -> list[tuple[Running, Chunk]]:
        """The next batch: one token for each that decodes, the rest shared among prompts."""
        batch = [(r, r.chunk(1)) for r in active if r.missing == 1]
        room = self._n_batch - len(batch)
        if batch:
            room = min(room, self._shared)
        # Equal shares, from the shortest on: a question does not wait for a long text.
        prompts = sorted((r for r in active if r.missing > 1), key=lambda r: r.missing)
        for n, running in enumerate(prompts):
            share = -(-room // (len(prompts) - n))
            if share > 0:
                chunk = running.chunk(share)
                room -= len(chunk.ids)
                batch.append((running, chunk))
        return batch

    def took(self, tokens: int, seconds: float) -> None:
        """Note how long a step took, by which prompts get as much as lets streams flow."""
        if tokens >= _LEAST_SHARED:
            wanted = int(_SHARED_STEP_S * tokens / max(seconds, 1e-6))
            self._shared = max(_LEAST_SHARED, min(self._most_shared, wanted))
