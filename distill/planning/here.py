"""What this machine reaches: how fast it reads memory, how fast it multiplies quantized weights.

Both are measured with what the runtime itself uses, or does: a streaming read of more than
any cache holds, as decode reads weights, and ggml's own kernels for products of quantized
rows, which prefill consists of. Where the runtime rearranges weights, its prefill is faster.
A machine that does other work meanwhile measures less than it has.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from distill.planning.boards import Board
from distill.words import say
from edge.device import Device, detect
from edge.gguf_types import TENSOR_TYPES
from edge.llamacpp.native import api

__all__ = ["NAME", "measure"]

NAME = "here"
"""By which this machine is asked for."""
_READ_BYTES = 1 << 28
_TRIES = 5
_COLUMNS = 1 << 18
"""Of the rows that are multiplied: a product takes longer than its call, and stays in a cache."""
_REPEATS = 40
_KERNELS = {"F16": 1, "Q4_0": 2, "Q8_0": 8, "Q4_K_M": 12, "Q5_K_M": 13, "Q6_K": 14}
"""The number in `ggml.h` of the type that most weights of a quantization have."""


class _Traits(ctypes.Structure):
    """`struct ggml_type_traits_cpu` of ggml-cpu.h."""

    _fields_ = (
        ("from_float", ctypes.c_void_p),
        ("vec_dot", ctypes.c_void_p),
        ("vec_dot_type", ctypes.c_int),
        ("nrows", ctypes.c_int64),
    )


# void (int n, float * s, size_t bs, const void * x, size_t bx, const void * y, size_t by, int nrc)
_Dot = ctypes.CFUNCTYPE(
    None, ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p, ctypes.c_size_t,
    ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int,
)  # fmt: skip


def measure(progress: Callable[[int, int | None], object] | None = None) -> Board:
    """This machine as a board; takes some seconds, and 256 MiB of memory where there is as much.

    Args:
        progress: told how many of the measurements are done.

    Raises:
        EngineError: llama.cpp's libraries are not there.
    """
    device = detect()
    cores = device.cpu.cores
    size = min(_READ_BYTES, device.memory.available // 2)
    works: list[Callable[[], float]] = [
        partial(_read_rate, size, threads) for threads in sorted({1, min(2, cores), cores})
    ]
    works += [partial(_dot_rate, kind, cores) for kind in _KERNELS.values()]
    rates: list[float] = []
    for work in works:
        rates.append(work())
        if progress:
            progress(len(rates), len(works))
    reads, dots = rates[: -len(_KERNELS)], rates[-len(_KERNELS) :]
    return Board(
        name=NAME,
        title=_title(device),
        arch=device.cpu.arch,
        flags=device.cpu.flags,
        memory_gb=(device.memory.total / 1e9,),
        bandwidth_gb_per_s=max(reads),
        bandwidth_source=say("plan.measured-here"),
        gops=dict(zip(_KERNELS, dots, strict=True)),
        gops_source=say("plan.measured-here"),
    )


def _title(device: Device) -> str:
    return device.board if device.is_pi else device.cpu.name or say("plan.this-machine")


def _read_rate(size: int, threads: int) -> float:
    """GB/s at which so many threads read `size` bytes of memory, the best of several passes.

    The C library's search for a byte that is not there reads all, by the widest instructions
    that the processor has, and without Python's lock.
    """
    libc = ctypes.CDLL(None)
    libc.memchr.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
    libc.memchr.restype = ctypes.c_void_p
    data = bytearray(b"\x01") * size  # written, so that no two pages are one
    held = (ctypes.c_char * size).from_buffer(data)
    start, part = ctypes.addressof(held), size // threads

    def read(n: int) -> None:
        libc.memchr(start + n * part, 0, part)

    return part * threads / _best(read, threads) / 1e9


def _dot_rate(kind: int, threads: int) -> float:
    """10⁹ operations a second of ggml's product of two rows on so many threads, at its best."""
    traits = _traits(kind)
    dot = _Dot(traits.vec_dot)
    sizes = [_row_bytes(kind), _row_bytes(traits.vec_dot_type)]
    buffers = [[ctypes.create_string_buffer(size) for size in (*sizes, 16)] for _ in range(threads)]

    def multiply(n: int) -> None:
        x, y, result = map(ctypes.addressof, buffers[n])
        for _ in range(_REPEATS):
            dot(_COLUMNS, result, 0, x, 0, y, 0, 1)

    return 2 * _COLUMNS * _REPEATS * threads / _best(multiply, threads) / 1e9


def _row_bytes(kind: int) -> int:
    """Of `_COLUMNS` numbers; those of activations, of which no file has Q8_K, take 2 at most."""
    known = TENSOR_TYPES.get(kind)
    return _COLUMNS // known.block * known.n_bytes if known else 2 * _COLUMNS


def _traits(kind: int) -> Any:
    lib = api()._lib
    lib.ggml_cpu_init.restype = None
    lib.ggml_cpu_init()
    lib.ggml_get_type_traits_cpu.argtypes = [ctypes.c_int]
    lib.ggml_get_type_traits_cpu.restype = ctypes.POINTER(_Traits)
    return lib.ggml_get_type_traits_cpu(kind)[0]


def _best(work: Callable[[int], None], threads: int) -> float:
    """Least seconds that `work` took on all threads at once."""
    times = []
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(_TRIES):
            began = time.perf_counter()
            list(pool.map(work, range(threads)))
            times.append(time.perf_counter() - began)
    return min(times)
