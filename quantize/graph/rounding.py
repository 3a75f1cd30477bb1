"""Weights in blocks of 32 small integers with one scale, as ONNX Runtime multiplies them.

The rule is that of ggml's Q4_0 and of MLAS (`sqnbitgemm`, symmetric): the number of largest
magnitude in a block becomes the lowest level, -2ᵇ⁻¹, which is the one more that two's
complement has. A block's scale is that number over -2ᵇ⁻¹, so its sign may be negative.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["BLOCK", "per_row", "to_blocks"]

BLOCK = 32
_SLICE = 1 << 22
"""Numbers that are rounded at once, so that a large matrix takes no multiple of itself."""


def to_blocks(
    weight: NDArray[np.float32], bits: int
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Levels and scales of a matrix [N, K], where K is a multiple of 32.

    Args:
        weight: the numbers, all finite.
        bits: 4 or 8.

    Returns:
        Levels [N, K · bits / 8], two to a byte where they have four bits, the lower half
        first, shifted so that 2ᵇ⁻¹ means zero; scales [N, K / 32].
    """
    rows, columns = weight.shape
    levels = np.empty((rows, columns * bits // 8), np.uint8)
    scales = np.empty((rows, columns // BLOCK), np.float32)
    step = max(1, _SLICE // columns)
    for at in range(0, rows, step):
        some = slice(at, at + step)
        levels[some], scales[some] = _round(weight[some], bits)
    return levels, scales


def _round(weight: NDArray[np.float32], bits: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    half = 1 << (bits - 1)
    blocks = weight.reshape(len(weight), -1, BLOCK)
    widest = np.abs(blocks).argmax(axis=-1, keepdims=True)
    scales = np.take_along_axis(blocks, widest, axis=-1) / np.float32(-half)
    inverse = np.divide(1, scales, out=np.zeros_like(scales), where=scales != 0)
    # The smallest subnormal scales have no inverse; such a block is zero.
    inverse[~np.isfinite(inverse)] = 0
    levels = np.clip(np.rint(blocks * inverse) + half, 0, 2 * half - 1).astype(np.uint8)
    levels = levels.reshape(len(weight), -1)
    if bits == 4:
        levels = levels[:, 0::2] | levels[:, 1::2] << 4
    return levels, scales[..., 0]


def per_row(weight: NDArray[np.float32]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Levels [N, K] from 1 to 255 and scales [N] of a matrix [N, K], zero being level 128."""
    scales = np.abs(weight).max(axis=1) / np.float32(127)
    inverse = np.divide(1, scales, out=np.zeros_like(scales), where=scales != 0)
    inverse[~np.isfinite(inverse)] = 0
    levels = np.empty(weight.shape, np.uint8)
    step = max(1, _SLICE // weight.shape[1])
    for at in range(0, len(weight), step):
        some = slice(at, at + step)
        levels[some] = np.clip(np.rint(weight[some] * inverse[some, None]), -127, 127) + 128
    return levels, scales
