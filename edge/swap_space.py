"""KV states in RAM beside the engine: where conversations wait for their next turn.

Attention walks over every cell in use, those of conversations that rest included, so
these make room for the ones that are being answered (vLLM's swap space, SOSP 2023;
llama-server's --cache-ram). A copy out and in again costs what a few tokens cost.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass

from edge.kvstore import common_prefix

__all__ = ["SwapSpace", "Swapped"]


@dataclass(eq=False, slots=True)
class Swapped:
    """A sequence outside the engine."""

    tokens: array[int]
    state: bytearray
    """As the engine wrote it."""
    pinned: int
    """Length of its system prompt, in tokens."""
    saved: bool
    """Whether the disk holds all of it."""

    def copy_to(self, out: memoryview) -> None:
        """Write the state into a buffer of its size."""
        out[:] = self.state


class SwapSpace:
    """Swapped sequences, the one that has waited longest first.

    Args:
        most_bytes: bound on their states together; zero keeps none.
    """

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self._used = 0
        self._entries: list[Swapped] = []

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Swapped]:
        return iter(self._entries)

    @property
    def free(self) -> int:
        """Bytes that are left."""
        return self.most_bytes - self._used

    def best(self, prompt: array[int]) -> tuple[Swapped | None, int]:
        """The sequence that shares most with `prompt`, and how many tokens."""
        found, most = None, 0
        for swapped in self._entries:
            n = common_prefix(swapped.tokens, prompt)
            if n > most:
                found, most = swapped, n
        return found, most

    def put(self, swapped: Swapped) -> None:
        """Keep a sequence, which must fit."""
        self._entries.append(swapped)
        self._used += len(swapped.state)

    def remove(self, swapped: Swapped) -> None:
        """Let go of a sequence."""
        self._entries.remove(swapped)
        self._used -= len(swapped.state)
