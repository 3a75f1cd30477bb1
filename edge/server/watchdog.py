"""systemd hears that the server and its engine get on: sd_notify(3), `WatchdogSec=`.

A server that hangs is as bad as one that has died, and nothing starts it again. So it says at
intervals that it lives; who has not heard for too long ends it and starts another.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from contextlib import suppress

__all__ = ["notify", "watched"]


def notify(state: str) -> None:
    """Tell the service manager, if there is one.

    Args:
        state: an assignment, as `READY=1`.
    """
    place = os.environ.get("NOTIFY_SOCKET", "")
    if not place.startswith(("/", "@")):
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to:
        to.connect(f"\0{place[1:]}" if place[0] == "@" else place)
        to.sendall(state.encode())


async def watched(step_s: Callable[[], float]) -> None:
    """Say that we live as long as we do; at once done where nobody wants to know.

    Args:
        step_s: for how long the engine has been at one step, in seconds.
    """
    period_s = int(os.environ.get("WATCHDOG_USEC") or 0) / 1e6
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()) or not period_s:
        return
    while True:
        if step_s() < period_s:
            notify("WATCHDOG=1")
        await asyncio.sleep(period_s / 2)
