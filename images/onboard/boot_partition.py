"""The partition that the firmware reads, written to for as long as it takes."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from images.onboard.programs import output

__all__ = ["BOOT", "writable"]

BOOT = Path("/boot/firmware")
"""Where it is mounted, so that it cannot be written to."""


@contextmanager
def writable(partition: Path) -> Iterator[None]:
    """Let it be written to; raises `OSError` where it cannot."""
    try:
        output("mount", "-o", "remount,rw", str(partition))
    except OSError as error:
        if "write-protected" in str(error):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS)) from error
        raise
    try:
        yield
    finally:
        output("mount", "-o", "remount,ro", str(partition))
