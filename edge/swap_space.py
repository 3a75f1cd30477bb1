"""KV states in RAM beside the engine: where conversations wait for their next turn.

Attention walks over all cells up to the last one in use, those of conversations that
rest included, so these make room for the ones that are being answered (vLLM's swap
space, SOSP 2023; llama-server's --cache-ram). A copy out and in again costs what a few
tokens cost.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from mmap import mmap

__all__ = ["SwapSpace", "Swapped"]


@dataclass(eq=False, slots=True)
class Swapped:
    """A sequence outside the engine."""

    tokens: array[int]
    state: mmap
    """As the engine wrote it; pages of its own, which go back to the system at once."""
    pinned: int
    """Length of its system prompt, in tokens."""
    saved: bool
    """Whether the disk holds all of it."""


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

    def __contains__(self, swapped: Swapped) -> bool:
        return swapped in self._entries

    @property
    def free(self) -> int:
        """Bytes that are left."""
        return self.most_bytes - self._used

    @property
    def cheap(self) -> int:
        """Bytes that are left, or would be without those that the disk holds too."""
        return self.free + sum(len(entry.state) for entry in self._entries if entry.saved)

    def first_to_go(self) -> Swapped:
        """The one that has waited longest, of those that the disk holds too if there are any."""
        return next((entry for entry in self._entries if entry.saved), self._entries[0])

    def touch(self, swapped: Swapped) -> None:
        """It is wanted: it goes last of all."""
        self._entries.remove(swapped)
        self._entries.append(swapped)

    def put(self, swapped: Swapped) -> None:
        """Keep a sequence, which must fit."""
        self._entries.append(swapped)
        self._used += len(swapped.state)

    def remove(self, swapped: Swapped) -> None:
        """Let go of a sequence."""
        self._entries.remove(swapped)
        self._used -= len(swapped.state)
