"""In which order a training reads: a function of (seed, index) alone.

No state has to be kept to go on where a training stopped, and any number of processes find
their own sequences without asking each other:

    index ──▶ which text, the how-manieth of it ──▶ which window of it ──▶ T + 1 tokens
               shares even at every moment            shuffled anew each epoch
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Order", "Tokens", "permuted", "place"]

_ROUNDS = 6
_MASK = (1 << 64) - 1


class Tokens(Protocol):
    """A long row of tokens."""

    @property
    def identity(self) -> str:
        """What it is made of: a SHA-256."""

    def __len__(self) -> int:
        """How many tokens."""

    def read(self, start: int, stop: int) -> NDArray[np.int32]:
        """Those from `start` to before `stop`."""


class Order:
    """Sequences of T + 1 tokens, by index; the last token of each is the first of another.

    Args:
        texts: the parts of the mixture, each of at least T + 1 tokens.
        weights: share of each in what is read.
        length: tokens of a sequence, T.
        seed: another one shuffles otherwise.
    """

    def __init__(
        self, texts: Sequence[Tokens], weights: Sequence[float], length: int, seed: int
    ) -> None:
        self.length = length
        self._texts = texts
        self._weights = [weight / sum(weights) for weight in weights]
        self._seed = seed
        self._windows = [(len(text) - 1) // length for text in texts]
        said = [(text.identity, w) for text, w in zip(texts, self._weights, strict=True)]
        self.identity = hashlib.sha256(repr((said, length, seed)).encode()).hexdigest()
        """Whoever reads by an order of this identity reads the same."""

    def __getitem__(self, index: int) -> NDArray[np.int32]:
        """Sequence of that index, from 0 on without end: tokens [T + 1]."""
        which, start = self.find(index)
        return self._texts[which].read(start, start + self.length + 1)

    def find(self, index: int) -> tuple[int, int]:
        """Which text the sequence is of, and its first token in it."""
        which, nth = place(index, self._weights)
        windows = self._windows[which]
        epoch, nth = divmod(nth, windows)
        key = int.from_bytes(
            hashlib.sha256(repr((self._seed, which, epoch)).encode()).digest()[:8], "little"
        )
        return which, self.length * permuted(nth, windows, key)

    def epochs(self, sequences: int) -> list[float]:
        """How often each text has been read after so many sequences."""
        return [
            sequences * weight / windows
            for weight, windows in zip(self._weights, self._windows, strict=True)
        ]


def place(index: int, weights: Sequence[float]) -> tuple[int, int]:
    """To which of several rows item `index` belongs, and its number in that row.

    The rows get their shares evenly: at each fork between one row and the rest, items go as
    the pixels of a straight line (Bresenham) go up or ahead. So after n items each row has
    its share of n but for less than one item a fork.

    Args:
        index: from 0 on.
        weights: share of each row, positive.
    """
    left = sum(weights)
    for which, weight in enumerate(weights[:-1]):
        share = weight / left
        before = int(index * share)
        if int((index + 1) * share) > before:
            return which, before
        index -= before
        left -= weight
    return len(weights) - 1, index


def permuted(index: int, n: int, key: int) -> int:
    """Where a permutation of 0 … n − 1 sends `index`; the key chooses the permutation.

    A Feistel network over the next power of four, walked until it is back below n (Black and
    Rogaway, "Ciphers with arbitrary finite domains", 2002): nothing of size n is kept.
    """
    half = max((n - 1).bit_length() + 1, 2) // 2
    low = (1 << half) - 1
    while True:
        left, right = index >> half, index & low
        for turn in range(_ROUNDS):
            left, right = right, left ^ (_mixed(right ^ _mixed(key + turn)) & low)
        index = left << half | right
        if index < n:
            return index


def _mixed(x: int) -> int:
    """SplitMix64's finalizer (Steele, Lea and Flood, 2014)."""
    x = (x + 0x9E3779B97F4A7C15) & _MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
    return x ^ (x >> 31)
