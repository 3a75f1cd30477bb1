"""What token sequences have in common from their beginning on."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from typing import Protocol, TypeVar

__all__ = ["common_prefix", "longest_shared"]


class _Tokens(Protocol):
    @property
    def tokens(self) -> array[int]: ...


_T = TypeVar("_T", bound=_Tokens)


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """Length of the longest common prefix, by bisection over slice comparisons."""
    low, high = 0, min(len(a), len(b))
    if a[:high] == b[:high]:
        return high
    while high - low > 1:
        middle = (low + high) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle
    return low


def longest_shared(
    entries: Iterable[_T], prompt: array[int], part: float = 0
) -> tuple[_T | None, int]:
    """The entry that shares most with `prompt`, and how many tokens; of equals the shortest.

    Args:
        entries: sequences of tokens.
        prompt: what is looked for.
        part: how much of an entry must be of use, 0 to 1; others are passed over.
    """
    found, most = None, 0
    for entry in entries:
        n = common_prefix(entry.tokens, prompt)
        if n < part * len(entry.tokens) or n < max(most, 1):
            continue
        if found is None or n > most or len(entry.tokens) < len(found.tokens):
            found, most = entry, n
    return found, most
