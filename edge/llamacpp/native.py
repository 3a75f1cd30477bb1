"""llama.cpp's shared libraries: loading them, and their log.

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
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from edge.errors import EngineError

__all__ = ["api", "build", "forget_errors", "of_cpu", "reason"]

_log = logging.getLogger("edge.llamacpp")
_CONTINUED = 5  # ggml_log_level: the rest of a line
_ERROR = 4


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
                self.reason = line.strip().strip("=")  # of a frame, nothing
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
    _load_backends(bindings._lib)
    return bindings


# ctypes frees a callback that nobody holds, while llama.cpp still calls it.
_keep: list[Any] = []


def _declare(lib: ctypes.CDLL) -> None:
    """Types of the functions that the bindings leave out.

    They are looked up in libllama, whose dependencies dlsym searches too: the
    wheel holds each library several times, and a second copy has its own state.
    """
    lib.ggml_backend_reg_count.argtypes = []
    lib.ggml_backend_reg_count.restype = ctypes.c_size_t
    lib.ggml_backend_load_all_from_path.argtypes = [ctypes.c_char_p]
    lib.ggml_backend_load_all_from_path.restype = None
    lib.ggml_backend_reg_by_name.argtypes = [ctypes.c_char_p]
    lib.ggml_backend_reg_by_name.restype = ctypes.c_void_p
    lib.ggml_backend_reg_get_proc_address.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
    lib.ggml_backend_reg_get_proc_address.restype = ctypes.c_void_p
    lib.llama_attach_threadpool.argtypes = [ctypes.c_void_p] * 3
    lib.llama_attach_threadpool.restype = None


def _load_backends(lib: ctypes.CDLL) -> None:
    """Load what computes, where it lies beside libllama in a form for each CPU.

    A build for many boards has it so, and takes the best that this CPU can run; one for this
    machine holds it within.

    Raises:
        EngineError: none of the forms runs on this CPU.
    """
    if lib.ggml_backend_reg_count() == 0:
        lib.ggml_backend_load_all_from_path(os.fsencode(Path(lib._name).parent))
        if lib.ggml_backend_reg_count() == 0:
            raise EngineError("engine.not-loadable", reason="no backend of ggml for this CPU")


def of_cpu(name: str, restype: Any, *argtypes: Any) -> Callable[..., Any]:
    """A function of what computes on the CPU, which need not lie in libllama (`_load_backends`)."""
    lib = api()._lib
    address = lib.ggml_backend_reg_get_proc_address(
        lib.ggml_backend_reg_by_name(b"CPU"), name.encode()
    )
    return ctypes.CFUNCTYPE(restype, *argtypes)(address)


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
