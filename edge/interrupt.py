"""Ctrl-C in the commands that make something, and SIGTERM, which ends them alike.

A library that tries an import and catches whatever comes of it catches KeyboardInterrupt, too:
what fails then for want of a name is still that somebody has pressed Ctrl-C.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["end_as_by_ctrl_c", "heard", "later"]

_heard = False


def end_as_by_ctrl_c() -> None:
    """What Ctrl-C clears away, `timeout` and a system that shuts down should, too."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _interrupt)
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, _interrupt)


@contextmanager
def later() -> Iterator[None]:
    """One of them that comes while something is cleared away comes when that is done."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came = list[int]()
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, lambda number, _: came.append(number)) for number in numbers]
    try:
        yield
    finally:
        for number, answer in zip(numbers, before, strict=True):
            signal.signal(number, answer)
        for first in came[:1]:
            signal.raise_signal(first)


def heard() -> bool:
    """Whether one of them has come."""
    return _heard


def _interrupt(number: int, frame: FrameType | None) -> None:
    global _heard  # noqa: PLW0603 - a signal belongs to the process, and so does this
    _heard = True
    signal.default_int_handler(number, frame)
