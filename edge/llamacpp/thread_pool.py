"""ggml's thread pools."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from functools import cache
from typing import Any

from edge.llamacpp.native import api, of_cpu

__all__ = ["ThreadPool"]

_MAX_THREADS = 512  # GGML_MAX_N_THREADS


class _Params(ctypes.Structure):
    """`struct ggml_threadpool_params` of ggml.h, which the bindings leave out."""

    _fields_ = (
        ("cpumask", ctypes.c_bool * _MAX_THREADS),
        ("n_threads", ctypes.c_int),
        ("prio", ctypes.c_int),
        ("poll", ctypes.c_uint32),
        ("strict_cpu", ctypes.c_bool),
        ("paused", ctypes.c_bool),
    )


@cache
def _functions() -> tuple[Callable[..., Any], Callable[..., Any], Callable[..., Any]]:
    """Those that give the usual parameters, make a pool, and end it."""
    default = api()._lib.ggml_threadpool_params_default
    default.argtypes, default.restype = [ctypes.c_int], _Params
    return (
        default,
        of_cpu("ggml_threadpool_new", ctypes.c_void_p, ctypes.POINTER(_Params)),
        of_cpu("ggml_threadpool_free", None, ctypes.c_void_p),
    )


class ThreadPool:
    """ggml's own thread pool.

    The pool that llama.cpp makes by itself (OpenMP's, or one made anew for each
    graph) either sleeps at every barrier or starts threads for every token.
    Idle workers sleep at once, which leaves their core to the terminal and the
    server between two tokens. Where there is a thread for each core, each is
    pinned to its own: woken on the core of the one that wakes it, a worker would
    stay there while another process has the other core (see `threads`).

    Args:
        n_threads: threads, the calling one included: the first thread that computes
            is pinned too, hence only when it computes.
    """

    def __init__(self, n_threads: int) -> None:
        default, new, self._free = _functions()
        params = default(n_threads)
        params.poll = 0
        params.paused = True
        cores = os.sched_getaffinity(0)
        if n_threads == len(cores) and max(cores) < _MAX_THREADS:
            params.strict_cpu = True
            for core in cores:
                params.cpumask[core] = True
        self.pointer: int | None = new(ctypes.byref(params))

    def close(self) -> None:
        """End the threads; no context may use the pool any more."""
        if self.pointer is not None:
            self._free(self.pointer)
            self.pointer = None
