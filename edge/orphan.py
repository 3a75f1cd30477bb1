"""The end of a process when those that it works for are gone, killed for instance.

What they would have done at their own end, they do not do then. The system tells: in a pidfd
(pidfd_open(2)) the end of any process can be waited for, a parent's end can be made a signal
(PR_SET_PDEATHSIG, prctl(2)). Where there is neither, nothing is done.
"""

from __future__ import annotations

import os
import select
import signal
import sys
from collections.abc import Callable
from threading import Event, Thread

__all__ = ["end_after", "end_with_parent"]

_PR_SET_PDEATHSIG = 1


def end_after(pid: int, grace_s: Callable[[], float], ending: Event) -> None:
    """Kill this process some time after another, which need not be its parent, has ended.

    Args:
        pid: of the other.
        grace_s: asked then for the seconds in which this process may begin to end by itself.
        ending: set when it does; then it is left to it.
    """
    # Also Pythons for Linux lack it that were built on an old system.
    opened: Callable[[int], int] | None = getattr(os, "pidfd_open", None)
    if opened is None:
        return
    try:
        watched = opened(pid)
    except ProcessLookupError:  # it has ended already
        watched = None
    except OSError:  # a kernel, or a container, without pidfds
        return

    def watch() -> None:
        if watched is not None:
            select.select([watched], [], [])
        if not ending.wait(grace_s()):
            _end()

    # What computes lets threads of Python run meanwhile.
    Thread(target=watch, name="orphan", daemon=True).start()


def end_with_parent() -> None:
    """Have this process end at once with its parent, also while native code lets no thread run.

    To be called as early as can be: of a parent that is gone before, nothing is known.
    """
    if sys.platform != "linux":
        return
    import ctypes

    parent = os.getppid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended in between, and there will be no signal
        _end()


def _end() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
