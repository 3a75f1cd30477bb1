"""Standard streams that are closed or full: programs that start ours may leave them so."""

from __future__ import annotations

import errno
import os
import sys

__all__ = ["UNWRITABLE", "complete", "silence"]

UNWRITABLE = {errno.EPIPE, errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EFBIG}
"""Why an output cannot be written to, through no fault of the program."""


def complete() -> None:
    """Put the null device where a standard stream is closed.

    Python leaves it None then, and the next file or socket that is opened would take its
    number: what is meant for the screen would be written there.
    """
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115 - a number, which stays open


def silence() -> None:
    """Let go what stdout still holds, which Python would fail to write again as it ends."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.close(null)
