"""Stopping llama.cpp in the middle of a step."""

from __future__ import annotations

import ctypes
from typing import Any

from edge.llamacpp.native import api

__all__ = ["ABORTED", "AbortFlag"]

ABORTED = 2
"""What `llama_decode` returns then."""


class AbortFlag:
    """Which any thread may raise while another is in a step.

    A Python callback would be called some 700 times a token. That takes 5 % of decode, and
    would wait for the interpreter's lock in the middle of a step; the C library's strlen
    reads the flag: 0 is false, 1 is true.
    """

    def __init__(self) -> None:
        self._flag = ctypes.create_string_buffer(2)

    def attach(self, params: Any) -> None:
        """Have the context that is made of `params` heed it."""
        strlen = ctypes.CDLL(None).strlen
        params.abort_callback = ctypes.cast(strlen, api().ggml_abort_callback)
        params.abort_callback_data = ctypes.addressof(self._flag)

    def set(self) -> None:
        """Stop the step in progress, or else the next."""
        self._flag[0] = b"\1"

    def clear(self) -> None:
        """Before a step."""
        self._flag[0] = b"\0"
