"""Weights in ggml's block formats: how large, how near, by llama.cpp's own quantizers.

A format stores a row of weights in blocks of 32 or 256, each with its scale. What it loses
of a matrix W [out, in] is given as the *relative squared error*

    e² = Σ w_j (W_ij − Ŵ_ij)² / Σ w_j W_ij²

where w_j is the importance of input j: how strongly it is used (see `quantize.ggml.imatrix`).
"""

from __future__ import annotations

import ctypes
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from math import prod
from typing import TYPE_CHECKING, Any

import gguf
import numpy as np

from edge.device import detect
from edge.gguf_types import TENSOR_TYPES, TensorType
from edge.llamacpp.native import api

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["KNOWN", "fits", "pack", "relative_error", "round_trip", "size"]

_BY_NAME = {kind.name: (number, kind) for number, kind in TENSOR_TYPES.items()}
KNOWN = (
    "Q2_K", "Q3_K", "Q4_0", "Q4_1", "Q4_K", "Q5_0", "Q5_1", "Q5_K", "Q6_K", "Q8_0",
    "IQ2_S", "IQ3_XXS", "IQ3_S", "IQ4_NL", "IQ4_XS", "MXFP4",
)  # fmt: skip
"""Formats that ggml makes of an embedding, too, whose inputs have no importance."""
_SLICE = 1 << 20
"""Weights that are quantized at once: few enough that all threads have work."""


def fits(kind: str, columns: int) -> bool:
    """Whether rows of so many weights are whole blocks of that type."""
    return columns % _type(kind).block == 0


def size(kind: str, shape: tuple[int, ...]) -> int:
    """Bytes of a tensor of that type."""
    block = _type(kind)
    return prod(shape) // block.block * block.n_bytes


def _type(kind: str) -> TensorType:
    return _BY_NAME[kind][1]


def pack(
    weights: NDArray[np.float32], kind: str, importance: NDArray[np.float32] | None = None
) -> NDArray[np.uint8]:
    """Weights [out, in] in a format, whose blocks their rows must fill: bytes [out, of a row].

    Args:
        weights: the matrix.
        kind: the format, as llama.cpp calls it.
        importance: of each input [in]; None: all the same.
    """
    number = _BY_NAME[kind][0]
    weights = np.ascontiguousarray(weights, dtype=np.float32)
    rows, columns = weights.shape
    if not fits(kind, columns) or (importance is not None and importance.size != columns):
        raise ValueError(f"{kind}, {columns} columns")  # native code would read past the end
    if importance is not None:
        importance = np.ascontiguousarray(importance, dtype=np.float32)
    packed = np.empty((rows, size(kind, (columns,))), dtype=np.uint8)
    _lib().ggml_quantize_init(number)
    _lib().ggml_quantize_chunk(
        number, weights.ctypes.data, packed.ctypes.data, 0, rows, columns,
        None if importance is None else importance.ctypes.data,
    )  # fmt: skip
    return packed


def round_trip(
    weights: NDArray[np.float32],
    kind: str,
    importance: NDArray[np.float32] | None,
    threads: int = 0,
) -> NDArray[np.float32]:
    """Weights [out, in] as they come back from a format, whose blocks their rows must fill.

    Args:
        weights: the matrix.
        kind: the format, as llama.cpp calls it.
        importance: of each input [in]; None: all the same.
        threads: threads to compute with; 0: one for each core.
    """
    rows, columns = weights.shape
    result = np.empty((rows, columns), dtype=np.float32)
    step = max(1, _SLICE // columns)
    kept = gguf.GGMLQuantizationType(_BY_NAME[kind][0])

    def convert(start: int) -> None:
        packed = pack(weights[start : start + step], kind, importance)
        result[start : start + step] = gguf.quants.dequantize(packed, kept)

    with ThreadPoolExecutor(threads or detect().cpu.cores) as pool:
        list(pool.map(convert, range(0, rows, step)))
    return result


def relative_error(
    weights: NDArray[np.float32],
    rounded: NDArray[np.float32],
    importance: NDArray[np.float32] | None,
) -> float:
    """e² of `rounded` against `weights`, both [out, in]; 0 where there is nothing to lose."""
    difference = weights - rounded
    squares = np.einsum("ij,ij->j", difference, difference, dtype=np.float64)
    whole = np.einsum("ij,ij->j", weights, weights, dtype=np.float64)
    if importance is not None:
        squares, whole = squares * importance, whole * importance
    total = float(whole.sum())
    return float(squares.sum()) / total if total else 0.0


@cache
def _lib() -> Any:
    """ggml's functions that the bindings leave out, looked up in libllama."""
    lib = api()._lib
    lib.ggml_quantize_init.argtypes = [ctypes.c_int]
    lib.ggml_quantize_init.restype = None
    lib.ggml_quantize_chunk.argtypes = [
        ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p,
        ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p,
    ]  # fmt: skip
    lib.ggml_quantize_chunk.restype = ctypes.c_size_t
    return lib
