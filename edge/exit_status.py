"""How a process ended, in words."""

from __future__ import annotations

import signal

from edge.messages import text

__all__ = ["how_ended", "signal_name"]


def signal_name(number: int) -> str:
    """As `kill -l` has it, also of a real-time signal, of which Python names two."""
    known = {each.value: each.name for each in signal.Signals}
    return known.get(number, f"SIGRTMIN{number - signal.SIGRTMIN:+d}")


def how_ended(status: int) -> str:
    """For a sentence: an exit code, or the signal that is meant by a negative one."""
    if status < 0:
        return text("attended.signal", name=signal_name(-status))
    return text("attended.code", status=status)
