"""What goes into each weight matrix while llama.cpp evaluates a text.

llama.cpp's scheduler asks a callback about each operation of a graph before it is computed,
and calls it again afterwards for those that it wanted to see (`cb_eval`; llama-imatrix
works the same way).
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from edge.llamacpp.native import api

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Watch", "watch"]

_F32 = 0  # ggml_type
_FEWEST_ROWS = 16
"""llama-imatrix leaves smaller batches out: they are no part of reading a text."""


class _Tensor(ctypes.Structure):
    """`struct ggml_tensor` of ggml.h."""


_Pointer = ctypes.POINTER(_Tensor)
_Tensor._fields_ = (
    ("type", ctypes.c_int),
    ("buffer", ctypes.c_void_p),
    ("ne", ctypes.c_int64 * 4),
    ("nb", ctypes.c_size_t * 4),
    ("op", ctypes.c_int),
    ("op_params", ctypes.c_int32 * 16),
    ("flags", ctypes.c_int32),
    ("src", _Pointer * 10),
    ("view_src", _Pointer),
    ("view_offs", ctypes.c_size_t),
    ("data", ctypes.c_void_p),
    ("name", ctypes.c_char * 64),
    ("extra", ctypes.c_void_p),
    ("padding", ctypes.c_char * 8),
)

Watch = Callable[[str, "NDArray[np.float32]"], object]
"""Called with the name of a weight matrix and its inputs [rows, in], which are llama.cpp's own
memory and change as soon as the call returns."""


def watch(told: Watch) -> Any:
    """A callback for `llama_context_params.cb_eval`; it must outlive the context.

    Args:
        told: called after each multiplication by a weight matrix of a layer.
    """
    lib = api()._lib
    lib.ggml_op_name.argtypes, lib.ggml_op_name.restype = [ctypes.c_int], ctypes.c_char_p
    wanted: dict[int, bool] = {}

    def is_product(op: int) -> bool:
        if op not in wanted:
            wanted[op] = bool(lib.ggml_op_name(op) == b"MUL_MAT")
        return wanted[op]

    def on_operation(address: int, ask: bool, _data: object) -> bool:
        tensor = _Tensor.from_address(address)
        if ask:
            return is_product(tensor.op) and _is_layer(tensor)
        name, inputs = tensor.src[0].contents.name.decode(), tensor.src[1].contents
        told(name, _rows(inputs))
        return True

    return api().ggml_backend_sched_eval_callback(on_operation)


def _is_layer(tensor: _Tensor) -> bool:
    inputs = tensor.src[1].contents
    if inputs.type != _F32 or inputs.ne[1] < _FEWEST_ROWS:
        return False
    name: bytes = tensor.src[0].contents.name
    return name.startswith(b"blk.")


def _rows(inputs: _Tensor) -> NDArray[np.float32]:
    """A matrix over the memory of a tensor, whose rows may lie apart."""
    import numpy as np

    columns, rows = inputs.ne[0], inputs.ne[1]
    stride = inputs.nb[1] // ctypes.sizeof(ctypes.c_float)
    pointer = ctypes.cast(inputs.data, ctypes.POINTER(ctypes.c_float))
    flat = np.ctypeslib.as_array(pointer, ((rows - 1) * stride + columns,))
    return np.lib.stride_tricks.as_strided(flat, (rows, columns), (inputs.nb[1], flat.itemsize))
