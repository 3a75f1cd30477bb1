"""Calls into native code from a thread of their own, for the sake of Ctrl-C.

Python answers a signal between two steps of its main thread. There a call into native code
would keep it waiting; and one whose log comes back to Python would have it answered in there,
where the exception has nowhere to go: it would be printed, and lost.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import ParamSpec, Self, TypeVar

__all__ = ["Aside"]

P = ParamSpec("P")
T = TypeVar("T")


class Aside:
    """Called with a function and its arguments; returns what it returns.

    Args:
        stop: called at Ctrl-C, which then waits until the function has come back.
    """

    def __init__(self, stop: Callable[[], object] = lambda: None) -> None:
        self._stop = stop
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="aside")

    def __call__(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call it; the main thread waits meanwhile."""
        call = self._thread.submit(function, *args, **kwargs)
        try:
            return call.result()
        except KeyboardInterrupt:
            self._stop()
            wait([call])
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown()
