"""What a training reads follows from (seed, index) alone, evenly and without repetition."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from pretrain.order import Order, permuted, place


class Row:
    """Tokens that say where they stand."""

    def __init__(self, start: int, n: int) -> None:
        self.start, self.n = start, n
        self.identity = f"{start}"

    def __len__(self) -> int:
        return self.n

    def read(self, start: int, stop: int) -> NDArray[np.int32]:
        assert 0 <= start < stop <= self.n
        return np.arange(self.start + start, self.start + stop, dtype=np.int32)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 17, 256, 1000, 4097])
def test_a_permutation_reaches_each_place_once(n: int) -> None:
    for key in (0, 1, 2**63):
        assert sorted(permuted(i, n, key) for i in range(n)) == list(range(n))


def test_a_permutation_looks_like_chance() -> None:
    n = 2000
    moved = [permuted(i, n, 7) for i in range(n)]
    # Of neighbours in a random permutation, two of n stay neighbours on average (either way).
    together = sum(abs(a - b) == 1 for a, b in pairwise(moved))
    assert together < 12
    assert abs(np.corrcoef(moved, range(n))[0, 1]) < 4 / np.sqrt(n)
    other = [permuted(i, n, 8) for i in range(n)]
    assert sum(a == b for a, b in zip(moved, other, strict=True)) < 12


@pytest.mark.parametrize("weights", [[1.0], [0.5, 0.5], [0.5, 0.3, 0.15, 0.05], [1e-3, 0.999]])
def test_shares_are_even_at_every_moment(weights: list[float]) -> None:
    count: Counter[int] = Counter()
    for index in range(3000):
        which, nth = place(index, weights)
        assert nth == count[which], "numbers within a row follow each other"
        count[which] += 1
        for row, weight in enumerate(weights):
            assert abs(count[row] - weight * (index + 1)) < len(weights)


def test_each_window_is_read_once_an_epoch() -> None:
    length = 10
    order = Order([Row(0, 101), Row(1000, 55)], [0.5, 0.5], length, seed=3)
    starts = [int(order[index][0]) for index in range(30)]
    small = [start for start in starts if start >= 1000]
    assert sorted(small[:5]) == sorted(small[5:10]) == [1000, 1010, 1020, 1030, 1040]
    assert small[:5] != small[5:10], "an epoch is shuffled anew"
    large = [start for start in starts if start < 1000]
    assert sorted(large[:10]) == list(range(0, 100, 10))
    assert order.epochs(20) == [1.0, 2.0]


def test_a_sequence_holds_the_token_behind_it() -> None:
    order = Order([Row(0, 101)], [1.0], 10, seed=0)
    first = order[0]
    assert first.shape == (11,)
    assert list(first) == list(range(int(first[0]), int(first[0]) + 11))


def test_the_identity_says_what_is_read() -> None:
    def identity(seed: int = 0, length: int = 10, weight: float = 0.5, start: int = 0) -> str:
        rows = [Row(start, 101), Row(1000, 101)]
        return Order(rows, [weight, 1 - weight], length, seed).identity

    assert identity() == identity()
    assert (
        len({identity(), identity(1), identity(0, 9), identity(weight=0.4), identity(start=5)}) == 5
    )
