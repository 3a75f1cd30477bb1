"""Standard streams that are closed or full: programs that start ours may leave them so."""

from __future__ import annotations

import errno
import os
import re
import stat
import sys
from io import TextIOWrapper

__all__ = ["UNWRITABLE", "complete", "settle", "silence", "silence_terminals_gone", "tell"]

UNWRITABLE = {errno.EPIPE, errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EFBIG, errno.EBADF}
"""Why an output cannot be written to, through no fault of the program."""
_STEERING = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_REPLACED = "\N{REPLACEMENT CHARACTER}"


def complete() -> None:
    """Put the null device where a standard stream is closed, and have stdout take any text.

    Python leaves it None then, and the next file or socket that is opened would take its
    number: what is meant for the screen would be written there.
    Writing to a closed stdout stays an error, as the answer would be lost; that nobody wants
    to read what is told on stderr is none.
    A screen that is not UTF-8 has no typographic quotes: a question mark stands for them.
    """
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        try:
            os.fstat(number)
        except OSError:
            # It takes the lowest number that is free.
            os.open(os.devnull, os.O_RDONLY if name == "stdout" else os.O_RDWR)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115 - a number, which stays open
    if isinstance(sys.stdout, TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="replace")


def silence(number: int = 1) -> None:
    """Let go what stdout (or stderr, 2) still holds: Python would fail to write it as it ends."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, number)
    os.close(null)


def silence_terminals_gone() -> None:
    """Let go of stdout and stderr that were a terminal, which has closed: what is still said on
    the way out is for nobody, and is no reason to fail."""
    for number in (1, 2):
        if stat.S_ISCHR(os.fstat(number).st_mode) and not os.isatty(number):
            silence(number)


def settle() -> None:
    """Write what stdout and stderr hold; one that went away with its terminal is let go of.

    Python ends with code 120 where it cannot write them.
    """
    for number, stream in ((1, sys.stdout), (2, sys.stderr)):
        try:
            stream.flush()
        except OSError as error:
            if error.errno not in UNWRITABLE:
                raise
            silence(number)


def tell(message: str) -> None:
    """Write a line on stderr, where there is still somebody to read it.

    Names of files and words of libraries may hold what steers a terminal: that is left out.
    """
    try:
        sys.stderr.write(f"{_STEERING.sub(_REPLACED, message)}\n")
        sys.stderr.flush()
    except OSError as error:
        if error.errno not in UNWRITABLE:
            raise
        silence(2)
