"""Why a server could not be reached, in words that `locale/system.toml` and `network.toml` know."""

from __future__ import annotations

import errno
import os
import re

import httpx

__all__ = ["reason_of"]

_NUMBERS = re.compile(r"^\[Errno -?\d+\] | \(received \d+ bytes, expected \d+\)$")
"""What tells a person nothing: "[Errno -2] Name or service not known"."""


def reason_of(error: httpx.TransportError) -> str:
    """What the system or httpx says; of a time that ran out, httpx may say nothing."""
    if isinstance(error, httpx.TimeoutException):
        return os.strerror(errno.ETIMEDOUT)
    return _NUMBERS.sub("", str(error)) or "—"
