"""Ctrl-C in the commands that make something; SIGTERM and SIGHUP end them alike.

A library that tries an import and catches whatever comes of it catches KeyboardInterrupt, too:
what fails then for want of a name is still that somebody has pressed Ctrl-C.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from edge import streams

__all__ = ["end_as_by_ctrl_c", "heard", "later"]

_heard = False


def end_as_by_ctrl_c() -> None:
    """What Ctrl-C clears away, a system that shuts down and a terminal that closes should, too.

    Under `nohup` work goes on without its terminal.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _interrupt)
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, _interrupt)
        if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
            signal.signal(signal.SIGHUP, _interrupt)


@contextmanager
def later() -> Iterator[None]:
    """One of them that comes while something is cleared away comes when that is done."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came = list[int]()
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
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
    if number == signal.SIGHUP:
        streams.silence_terminals_gone()
    signal.default_int_handler(number, frame)
