"""Signals that ask the program to end: save and leave, as Ctrl-Q does."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from edge import streams

__all__ = ["leaving_on_signals"]

_SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
_PATIENCE_S = 10.0


@contextmanager
def leaving_on_signals(leave: Callable[[int], None]) -> Iterator[None]:
    """While inside, call `leave` with the shell's exit code for the signal, 128 + its number.

    A process that has not ended after a while is ended hard: Textual waits without
    limit for a terminal that takes no more output, and what was said is saved by then.

    Args:
        leave: called in the main thread, between two of its instructions.
    """

    def ask(number: int, _: FrameType | None) -> None:
        code = 128 + number
        # A hang-up sends SIGCONT too, at which Textual would start the lost screen anew.
        signal.signal(signal.SIGCONT, signal.SIG_IGN)
        last_resort = threading.Timer(_PATIENCE_S, os._exit, (code,))
        last_resort.daemon = True
        last_resort.start()
        leave(code)

    before = {number: signal.signal(number, ask) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        streams.settle()
