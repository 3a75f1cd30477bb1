"""The kinds of ONNX files that are made."""

from __future__ import annotations

from dataclasses import dataclass

from quantize.errors import QuantizeUsageError
from quantize.graph.matrices import Blocks, Floats, RowsOfInt8, Storage

__all__ = ["F16", "F32", "INT8", "Q4", "Q8", "Type", "type_of"]

INT8_BITS = 8


@dataclass(frozen=True, slots=True)
class Type:
    """A kind of file."""

    name: str
    kind: str
    """In what is computed between matrices: `F32` or `F16`."""
    body: Storage
    head: Storage
    """Of the embedding and the output matrix."""
    suffix: str
    """What transformers.js puts behind `model` in the name of such a file."""

    @property
    def in_blocks(self) -> bool:
        """Whether widths must be multiples of a block."""
        return not isinstance(self.body, Floats)


F32 = Type("F32", "F32", Floats("F32"), Floats("F32"), "")
F16 = Type("F16", "F16", Floats("F16"), Floats("F16"), "_fp16")
INT8 = Type("INT8", "F32", RowsOfInt8(), RowsOfInt8(), "_int8")
Q8 = Type("Q8", "F32", Blocks(8), Blocks(8), "_quantized")
Q4 = Type("Q4", "F32", Blocks(4), Blocks(8), "_q4")

_BY_BITS = {32: F32, 16: F16, 8: Q8, 4: Q4}


def type_of(bits: int, *, dynamic: bool = False) -> Type:
    """The kind of file of that many bits a weight.

    Args:
        bits: 32, 16, 8 or 4.
        dynamic: of 8 bits, one scale for each row, as `quantize_dynamic` of ONNX Runtime does,
            instead of one for each block of 32.

    Raises:
        QuantizeUsageError: `dynamic` of other than 8 bits.
    """
    if dynamic and bits != INT8_BITS:
        raise QuantizeUsageError("onnx.dynamic", bits=bits)
    return INT8 if dynamic else _BY_BITS[bits]
