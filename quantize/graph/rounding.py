"""Weights in blocks of 32 small integers with one scale, as ONNX Runtime multiplies them.

The simple rule is that of ggml's Q4_0 and of MLAS (`sqnbitgemm`, symmetric): the number of
largest magnitude in a block becomes the lowest level, -2ᵇ⁻¹, of which two's complement has
one more. A block's scale is that number over -2ᵇ⁻¹, so its sign may be negative.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from quantize.grid import BLOCK

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["BLOCK", "per_row", "to_blocks"]

_SLICE = 1 << 18
"""Numbers that are rounded at once: what is computed of them stays in a processor's cache."""
_SEARCHED = 4
"""With so many bits, scales are searched for."""
_STEPS = np.arange(-9, 10, dtype=np.float32) / 10
"""How many levels more than 2ᵇ⁻¹ the widest number would have."""


def to_blocks(
    weight: NDArray[np.float32],
    bits: int,
    importance: NDArray[np.float32] | None = None,
    scales: NDArray[np.float32] | None = None,
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Levels and scales of a matrix [N, K], where K is a multiple of 32.

    Four bits are so few that each block's scale is searched for, as llama.cpp does where it
    has an importance matrix (`make_qx_quants`, ggml-quants.c): of 19 scales around the
    simple one, the one with the least weighed squared error, and the best for its levels.

    Args:
        weight: the numbers, all finite.
        bits: 4 or 8.
        importance: mean square of each input [K], by which errors are weighed.
        scales: [N, K / 32], where they are known; then none are searched.

    Returns:
        Levels [N, K · bits / 8], two to a byte where they have four bits, the lower half
        first, shifted so that 2ᵇ⁻¹ means zero; scales [N, K / 32].
    """
    rows, columns = weight.shape
    levels = np.empty((rows, columns * bits // 8), np.uint8)
    made = np.empty((rows, columns // BLOCK), np.float32)

    def do(some: slice) -> None:
        blocks = weight[some].reshape(-1, columns // BLOCK, BLOCK)
        if scales is not None:
            found = scales[some]
        else:
            found = _simple_scales(blocks, bits)
            if bits == _SEARCHED:
                found = _best_scales(blocks, bits, found, importance)
        levels[some] = _packed(_levels(blocks, found, bits) + (1 << (bits - 1)), bits)
        made[some] = found

    step = max(1, _SLICE // columns)
    parts = [slice(at, at + step) for at in range(0, rows, step)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # numpy computes beside itself
        list(pool.map(do, parts))
    return levels, made


def _simple_scales(blocks: NDArray[np.float32], bits: int) -> NDArray[np.float32]:
    """[N, K / 32]: of each block the number of largest magnitude over the lowest level."""
    widest = np.abs(blocks).argmax(axis=-1, keepdims=True)
    numbers = np.take_along_axis(blocks, widest, axis=-1)[..., 0]
    return numbers / np.float32(-(1 << (bits - 1)))


def _levels(
    blocks: NDArray[np.float32], scales: NDArray[np.float32], bits: int
) -> NDArray[np.float32]:
    """The nearest levels, from -2ᵇ⁻¹ on."""
    half = 1 << (bits - 1)
    # The smallest subnormal scales have no inverse; such a block is zero.
    with np.errstate(divide="ignore", over="ignore"):
        inverse = np.where(scales != 0, 1 / scales, 0).astype(np.float32)
    inverse[~np.isfinite(inverse)] = 0
    found = blocks * inverse[..., None]
    np.rint(found, out=found)
    return np.clip(found, -half, half - 1, out=found)


def _best_scales(
    blocks: NDArray[np.float32],
    bits: int,
    simple: NDArray[np.float32],
    importance: NDArray[np.float32] | None,
) -> NDArray[np.float32]:
    weights = blocks * blocks
    if importance is not None:
        spread = weights.mean(axis=(1, 2), keepdims=True)  # of each row
        weights = np.sqrt(spread + weights) * importance.reshape(1, -1, BLOCK)
    half = 1 << (bits - 1)
    best = simple.copy()
    most = np.full(simple.shape, -1, np.float32)
    for step in _STEPS:
        levels = _levels(blocks, simple * np.float32(half / (half + step)), bits)
        weighed = weights * levels
        # Least squares for these levels: scale = Σ w·x·l / Σ w·l², which takes (Σ w·x·l)² / Σ w·l²
        # off the error.
        product, square = (weighed * blocks).sum(axis=-1), (weighed * levels).sum(axis=-1)
        with np.errstate(divide="ignore", invalid="ignore"):
            scale = np.where(square > 0, product / square, 0).astype(np.float32)
        gain = product * scale
        better = gain > most
        most[better] = gain[better]
        best[better] = scale[better]
    return best


def _packed(levels: NDArray[np.float32], bits: int) -> NDArray[np.uint8]:
    """[N, K / 32, 32] numbers from 0 on as [N, K · bits / 8] bytes."""
    small = levels.astype(np.uint8).reshape(len(levels), -1)
    if bits == 4:
        small = small[:, 0::2] | (small[:, 1::2] << np.uint8(4))
    return small


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
