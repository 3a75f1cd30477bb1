"""How a matrix is stored in the data file, and by what operator it is multiplied.

    Floats      MatMul; FusedMatMul where the rows are the embedding's, which cannot be turned
    Blocks      MatMulNBits: 4 or 8 bits, blocks of 32; activations as 8 bits, block by block
    RowsOfInt8  DynamicQuantizeMatMul: 8 bits, a scale a row; activations as 8 bits, one scale

Looking up a row of the embedding and multiplying by it use the same bytes of the file.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from onnx import TensorProto

from quantize.graph.network import CONTRIB, Network, Part, Weight
from quantize.graph.rounding import BLOCK, per_row, to_blocks

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Blocks", "Floats", "Matrix", "RowsOfInt8", "Storage"]

_BYTE = 8
"""Bits of a weight that has a byte for itself."""
_INT8_ACTIVATIONS = 4
"""`accuracy_level` of MatMulNBits: the fast kernels, which no other level has."""


@dataclass(frozen=True, slots=True)
class Matrix:
    """A linear layer's weights [rows, columns], rows being outputs."""

    name: str
    rows: int
    columns: int
    read: Callable[[str], NDArray[Any]]
    """Reads it as `F32` or `F16`."""
    importance: NDArray[np.float32] | None = None
    """Mean square of each input [columns]; None: not known."""
    scales: Callable[[], NDArray[np.float32]] | None = None
    """Of a matrix on a grid of blocks already: [rows, columns / 32]."""


class Storage(Protocol):
    """One way to keep matrices."""

    def multiply(self, net: Network, x: str, matrix: Matrix) -> str:
        """Add what computes `x · matrixᵀ`; returns its name."""

    def look_up(self, net: Network, ids: str, matrix: Matrix) -> str:
        """Add what fetches rows of a matrix that `multiply_by_rows` may use as well."""

    def multiply_by_rows(self, net: Network, x: str, matrix: Matrix) -> str:
        """As `multiply`, by the bytes that `look_up` reads."""


@dataclass(frozen=True, slots=True)
class Floats:
    """Full or half precision."""

    kind: str
    """`F32` or `F16`."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the numbers."""
        return np.dtype(np.float32 if self.kind == "F32" else np.float16)

    def _keep(self, net: Network, matrix: Matrix, *, turned: bool) -> str:
        shape = (matrix.columns, matrix.rows) if turned else (matrix.rows, matrix.columns)

        def make() -> tuple[NDArray[Any], ...]:
            rows = matrix.read(self.kind)
            return (rows.T if turned else rows,)

        return net.keep(Weight((Part(f"{matrix.name}.weight", self.dtype, shape),), make))

    def multiply(self, net: Network, x: str, matrix: Matrix) -> str:
        """By a matrix that is stored [columns, rows]."""
        weight = self._keep(net, matrix, turned=True)
        return net.op("MatMul", [x, weight], f"/{matrix.name}/MatMul")

    def look_up(self, net: Network, ids: str, matrix: Matrix) -> str:
        """Gather."""
        weight = self._keep(net, matrix, turned=False)
        return net.op("Gather", [weight, ids], f"/{matrix.name}/Gather")

    def multiply_by_rows(self, net: Network, x: str, matrix: Matrix) -> str:
        """By a matrix that is stored [rows, columns]."""
        weight = self._keep(net, matrix, turned=False)
        name = f"/{matrix.name}/MatMul"
        if self.kind == "F32":
            return net.op("FusedMatMul", [x, weight], name, domain=CONTRIB, transB=1)
        turned = net.op("Transpose", [weight], f"/{matrix.name}/Transpose", perm=[1, 0])
        return net.op("MatMul", [x, turned], name)


@dataclass(frozen=True, slots=True)
class Blocks:
    """Small integers in blocks of 32."""

    bits: int

    def _keep(self, net: Network, matrix: Matrix) -> tuple[str, str, str]:
        """Names of blocks, of their scales, and of the same bytes row by row."""
        size = BLOCK * self.bits // 8
        n = matrix.columns // BLOCK
        suffix = f"_Q{self.bits}"
        flat = Part(f"{matrix.name}.rows{suffix}", np.dtype(np.uint8), (matrix.rows, n * size))
        scales = Part(f"{matrix.name}.scales{suffix}", np.dtype(np.float32), (matrix.rows, n))
        blocks = Part(f"{matrix.name}.weight{suffix}", np.dtype(np.uint8), (matrix.rows, n, size))
        bits = self.bits

        def make() -> tuple[NDArray[Any], ...]:
            known = matrix.scales() if matrix.scales is not None else None
            return to_blocks(matrix.read("F32"), bits, matrix.importance, known)

        net.keep(Weight((flat, scales), make, alias=blocks))
        return blocks.name, scales.name, flat.name

    def multiply(self, net: Network, x: str, matrix: Matrix) -> str:
        """MatMulNBits."""
        weight, scales, _ = self._keep(net, matrix)
        return net.op(
            "MatMulNBits",
            [x, weight, scales],
            f"/{matrix.name}/MatMulNBits",
            domain=CONTRIB,
            K=matrix.columns,
            N=matrix.rows,
            bits=self.bits,
            block_size=BLOCK,
            accuracy_level=_INT8_ACTIVATIONS,
        )

    def look_up(self, net: Network, ids: str, matrix: Matrix) -> str:
        """Gather of rows of bytes and of their scales, in standard operators.

        GatherBlockQuantized does it in one, but of onnxruntime-web's builds the one that
        transformers.js loads in a browser has it for GPUs alone.
        """
        if self.bits != _BYTE:
            raise NotImplementedError("a byte holds two weights")
        _, scales, rows = self._keep(net, matrix)
        at = f"/{matrix.name}"
        levels = net.op("Gather", [rows, ids], f"{at}/Gather")
        steps = net.op("Gather", [scales, ids], f"{at}/scales/Gather")
        last = net.constant(f"{matrix.name}.last_axis", np.array([-1], np.int64))
        in_blocks = net.constant(f"{matrix.name}.in_blocks", np.array([0, 0, -1, BLOCK], np.int64))
        whole = net.constant(f"{matrix.name}.whole", np.array([0, 0, -1], np.int64))
        zero = net.constant(f"{matrix.name}.zero_Q8", np.array(128, np.float32))
        real = net.op("Cast", [levels], f"{at}/Cast", to=TensorProto.FLOAT)
        centred = net.op("Sub", [real, zero], f"{at}/Sub")
        blocks = net.op("Reshape", [centred, in_blocks], f"{at}/in_blocks/Reshape")
        each = net.op("Unsqueeze", [steps, last], f"{at}/scales/Unsqueeze")
        scaled = net.op("Mul", [blocks, each], f"{at}/Mul")
        return net.op("Reshape", [scaled, whole], f"{at}/Reshape")

    multiply_by_rows = multiply


@dataclass(frozen=True, slots=True)
class RowsOfInt8:
    """Eight bits with one scale a row; the embedding in blocks, as a row is looked up alone.

    Levels are unsigned, 128 meaning zero: with signed ones, sums of two products overflow in
    ONNX Runtime's kernels for AVX2 without VNNI ("Quantize ONNX models", its documentation).
    """

    def multiply(self, net: Network, x: str, matrix: Matrix) -> str:
        """DynamicQuantizeMatMul."""
        levels = Part(
            f"{matrix.name}.weight_int8", np.dtype(np.uint8), (matrix.columns, matrix.rows)
        )
        scales = Part(f"{matrix.name}.scales_int8", np.dtype(np.float32), (matrix.rows,))

        def make() -> tuple[NDArray[Any], ...]:
            rounded, steps = per_row(matrix.read("F32"))
            return rounded.T, steps

        weight = net.keep(Weight((levels, scales), make))
        zero = net.constant(f"{matrix.name}.zero", np.full(matrix.rows, 128, np.uint8))
        return net.op(
            "DynamicQuantizeMatMul",
            [x, weight, scales.name, zero],
            f"/{matrix.name}/DynamicQuantizeMatMul",
            domain=CONTRIB,
        )

    def look_up(self, net: Network, ids: str, matrix: Matrix) -> str:
        """Of blocks."""
        return Blocks(8).look_up(net, ids, matrix)

    def multiply_by_rows(self, net: Network, x: str, matrix: Matrix) -> str:
        """MatMulNBits."""
        return Blocks(8).multiply(net, x, matrix)
