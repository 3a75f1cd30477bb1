"""llama.cpp's shared libraries: loading them, their log, their thread pools.

llama-cpp-python's package module imports its high-level class and every chat
format (0.14 s and 44 MiB here, a second on a Pi), none of which is used: its
low-level bindings are imported past it (0.03 s, 18 MiB).
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import logging
import os
import sys
import types
from functools import cache
from typing import Any

from edge.errors import EngineError

__all__ = ["ThreadPool", "api", "build", "forget_errors", "reason"]

_log = logging.getLogger("edge.llamacpp")
_CONTINUED = 5  # ggml_log_level: the rest of a line
_ERROR = 4
_MAX_THREADS = 512  # GGML_MAX_N_THREADS


class _ThreadPoolParams(ctypes.Structure):
    """`struct ggml_threadpool_params` of ggml.h, which the bindings leave out."""

    _fields_ = (
        ("cpumask", ctypes.c_bool * _MAX_THREADS),
        ("n_threads", ctypes.c_int),
        ("prio", ctypes.c_int),
        ("poll", ctypes.c_uint32),
        ("strict_cpu", ctypes.c_bool),
        ("paused", ctypes.c_bool),
    )


class _Log:
    """Joins llama.cpp's pieces of lines and hands whole ones to Python's logging.

    All are for debugging: what failed is raised as an error with the last line as
    its reason, and an aborted step, which is no fault, is logged as an error too.
    """

    def __init__(self) -> None:
        self.line = ""
        self.level = 0
        self.reason = ""

    def __call__(self, level: int, message: bytes, _data: object) -> None:
        if level != _CONTINUED:
            self.level = level
        self.line += message.decode("utf-8", "replace")
        while "\n" in self.line:
            line, self.line = self.line.split("\n", 1)
            if self.level == _ERROR and not self.reason:
                self.reason = line.strip()
            _log.debug("%s", line)


_logged = _Log()


def forget_errors() -> None:
    """Called before a call that may fail, so that `reason` is about that call."""
    _logged.reason = ""


def reason() -> str:
    """The first error that llama.cpp logged since: what went wrong; what follows is who noticed."""
    return _logged.reason


@cache
def api() -> Any:
    """The low-level bindings, `llama_cpp.llama_cpp`, with the backend initialised.

    Raises:
        EngineError: llama-cpp-python is not installed, or was built for another CPU.
    """
    spec = importlib.util.find_spec("llama_cpp")
    if spec is None or spec.submodule_search_locations is None:
        raise EngineError("engine.not-installed")
    if "llama_cpp" not in sys.modules:
        package = types.ModuleType("llama_cpp")
        package.__path__ = list(spec.submodule_search_locations)
        package.__spec__ = spec
        sys.modules["llama_cpp"] = package
    try:
        bindings = importlib.import_module("llama_cpp.llama_cpp")
    except (OSError, RuntimeError, FileNotFoundError) as error:
        raise EngineError("engine.not-loadable", reason=str(error)) from error
    # On an abort ggml would start a debugger, where one is installed, and wait for it.
    os.environ.setdefault("GGML_NO_BACKTRACE", "1")
    callback = bindings.llama_log_callback(_logged)
    bindings.llama_log_set(callback, ctypes.c_void_p(0))
    _keep.append(callback)
    bindings.llama_backend_init()
    _declare(bindings._lib)
    return bindings


# ctypes frees a callback that nobody holds, while llama.cpp still calls it.
_keep: list[Any] = []


def _declare(lib: ctypes.CDLL) -> None:
    """Types of the functions that the bindings leave out.

    They are looked up in libllama, whose dependencies dlsym searches too: the
    wheel holds each library several times, and a second copy has its own state.
    """
    lib.ggml_threadpool_params_default.argtypes = [ctypes.c_int]
    lib.ggml_threadpool_params_default.restype = _ThreadPoolParams
    lib.ggml_threadpool_new.argtypes = [ctypes.POINTER(_ThreadPoolParams)]
    lib.ggml_threadpool_new.restype = ctypes.c_void_p
    lib.ggml_threadpool_free.argtypes = [ctypes.c_void_p]
    lib.ggml_threadpool_free.restype = None
    lib.llama_attach_threadpool.argtypes = [ctypes.c_void_p] * 3
    lib.llama_attach_threadpool.restype = None


def build() -> str:
    """What this build is and which CPU features it uses; part of the key of saved KV states."""
    from importlib.metadata import version

    info = api().llama_print_system_info().decode()
    features = [
        part.split("=")[0].strip() for part in info.split("|") if part.strip().endswith("1")
    ]
    return f"llama-cpp-python {version('llama-cpp-python')} " + " ".join(
        f.split(":")[-1].strip() for f in features
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
        self._lib = api()._lib
        params = self._lib.ggml_threadpool_params_default(n_threads)
        params.poll = 0
        params.paused = True
        cores = os.sched_getaffinity(0)
        if n_threads == len(cores) and max(cores) < _MAX_THREADS:
            params.strict_cpu = True
            for core in cores:
                params.cpumask[core] = True
        self.pointer: int | None = self._lib.ggml_threadpool_new(ctypes.byref(params))

    def close(self) -> None:
        """End the threads; no context may use the pool any more."""
        if self.pointer is not None:
            self._lib.ggml_threadpool_free(self.pointer)
            self.pointer = None
