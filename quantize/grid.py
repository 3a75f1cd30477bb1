"""The numbers that a block format can hold: a few levels, times a scale for each block of 32.

GGUF's Q4_0 and ONNX Runtime's MatMulNBits of four bits hold the same numbers: levels -8 to 7,
one scale, no offset. So what is trained for one is good for the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["BLOCK", "GRIDS", "Grid", "Rounded"]

BLOCK = 32


@dataclass(frozen=True, slots=True)
class Grid:
    """Levels of a format."""

    bits: int
    lowest: int
    highest: int


GRIDS = {4: Grid(4, -8, 7), 8: Grid(8, -127, 127)}
"""By bits: Q4_0 and ONNX's int4; Q8_0."""


@dataclass(frozen=True, slots=True)
class Rounded:
    """A weight matrix on a grid; its numbers are `levels * scales`, block by block."""

    levels: NDArray[np.int8]
    """[out, in]"""
    scales: NDArray[np.float16]
    """[out, in / 32]"""

    def numbers(self) -> NDArray[np.float32]:
        """[out, in] as floats."""
        blocks = self.levels.reshape(*self.scales.shape, BLOCK).astype(np.float32)
        return (blocks * self.scales[..., None].astype(np.float32)).reshape(self.levels.shape)
