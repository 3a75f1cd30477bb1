"""The program `lucie`: what happens before anything else of it is imported."""

from __future__ import annotations

import signal

__all__ = ["main"]


def main() -> int:
    """Run `lucie`; returns the exit code.

    Ctrl-C while it is being imported ends it silently, and so does one while Python ends.
    """
    answer = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    from edge.cli import main as run

    signal.signal(signal.SIGINT, answer)
    try:
        return run()
    finally:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
