"""The work that one rendering may do, counted instead of timed.

A deadline would depend on the machine and its load; a count does not. One unit
is about one character read or made, so the same number bounds the time and the
memory: whatever a template makes is paid for, even what it throws away.
"""

from __future__ import annotations

from collections.abc import ItemsView, KeysView, ValuesView
from typing import Any

__all__ = ["STEP", "Meter", "TooMuchWorkError"]

STEP = 32
"""Units of one step of the interpreter: it takes as long as copying a few dozen characters."""

_MAX_DEPTH = 64  # containers in containers; hash() of deep tuples overflows the C stack
_VIEWS = (KeysView, ValuesView, ItemsView)


class TooMuchWorkError(Exception):
    """The template asked for more than any real one needs."""


class Meter:
    """Counts down from `limit` units.

    Once it is empty every further spending fails too, so nothing that swallows the
    exception on its way up gets far.
    """

    def __init__(self, limit: int) -> None:
        self.left = limit

    def spend(self, units: int) -> None:
        """Pay for work that is about to be done.

        Raises:
            TooMuchWorkError: there is not so much left.
        """
        self.left -= units
        if self.left < 0:
            raise TooMuchWorkError

    def weigh(self, value: Any, *, opaque: bool = True) -> None:
        """Pay for `value` as a tree: what writing, comparing or hashing it takes.

        A list that holds one list twice is small in memory, yet twice as long when
        written; sixty such steps are more than any machine can write.

        Args:
            value: anything that a template can hold.
            opaque: whether it may hold what has no text: macros, namespaces, loops.

        Raises:
            TooMuchWorkError: it is larger than what is left, or too deep.
            TypeError: it has no text, and `opaque` is False.
        """
        level = [value]
        for _ in range(_MAX_DEPTH):
            inner: list[Any] = []
            for item in level:
                if isinstance(item, str):
                    self.spend(len(item) + 1)
                elif isinstance(item, dict):
                    self.spend(STEP * (len(item) + 1))
                    inner += item.keys()
                    inner += item.values()
                elif isinstance(item, (list, tuple, *_VIEWS)):
                    self.spend(STEP * (len(item) + 1))
                    inner += item
                elif isinstance(item, range):
                    self.spend(STEP * (len(item) + 1))
                else:
                    self.spend(STEP)
                    if not (opaque or _is_plain(item)):
                        raise TypeError(f"a {type(item).__name__} cannot be written as text")
            if not inner:
                return
            level = inner
        raise TooMuchWorkError


def _is_plain(value: Any) -> bool:
    from jinja2 import Undefined

    return value is None or isinstance(value, (int, float, Undefined))
