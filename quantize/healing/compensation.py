"""A good place to begin training: rounding whose errors cancel out (GPTQ).

A matrix is rounded column by column; what a column's rounding does to the outputs is
compensated by the columns that follow, as well as their inputs go together (Frantar et al.
2023, arXiv 2210.17323). Scales are those with the least weighed error of a block's weights as
they are when its turn comes, searched as llama.cpp does (`make_qx_quants`, ggml-quants.c).

Returned are the compensated weights *before* rounding: training starts from the same rounded
matrix, with weights spread between the levels rather than sitting on them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from quantize.grid import BLOCK, Grid
from quantize.healing.rounding import inverse

__all__ = ["best_scales", "compensate"]

_DAMPING = 0.01
"""Added to the diagonal of the moments, as a share of its mean, so that they can be inverted."""
_SEARCHED = 4
"""With so many bits, scales are searched for."""
_STEPS = [step / 10 for step in range(-9, 10)]
"""How many levels more than the lowest the widest number would have."""
_EDGE = 0.49
"""How far beyond the outermost level a weight may begin: it still takes part in training."""


def compensate(weight: Tensor, moments: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    """Weights [out, in] and scales [out, in / 32] to begin with.

    Args:
        weight: the floats [out, in], `in` being a multiple of 32.
        moments: Σ x xᵀ of the inputs [in, in].
        grid: the levels.
    """
    factor = _factor(moments)
    importance = moments.diagonal()
    spread = weight.square().mean(dim=1, keepdim=True)
    left = weight.clone()
    made, scales = torch.empty_like(weight), []
    for first in range(0, weight.shape[1], BLOCK):
        block = slice(first, first + BLOCK)
        now = left[:, block].clone()
        found = best_scales(now, importance[block] * (spread + now.square()).sqrt(), grid)
        scales.append(found)
        made[:, block], errors = _round_columns(now, found, factor[block, block], grid)
        left[:, first + BLOCK :] -= errors @ factor[block, first + BLOCK :]
    return made, torch.stack(scales, dim=1)


def _factor(moments: Tensor) -> Tensor:
    """The upper Cholesky factor of the inverse of the damped moments."""
    damped = moments.double()
    damped.diagonal().add_(_DAMPING * damped.diagonal().mean() + torch.finfo(torch.float32).tiny)
    inverted = torch.cholesky_inverse(torch.linalg.cholesky(damped))
    upper: Tensor = torch.linalg.cholesky(inverted, upper=True)
    return upper.to(moments.dtype)


def _round_columns(
    now: Tensor, scales: Tensor, factor: Tensor, grid: Grid
) -> tuple[Tensor, Tensor]:
    """Weights of a block as compensated within it; each column's error over its own factor."""
    made, errors = torch.empty_like(now), torch.empty_like(now)
    inverted = inverse(scales)
    for at in range(BLOCK):
        levels = now[:, at] * inverted
        kept = levels.clamp(grid.lowest - _EDGE, grid.highest + _EDGE)
        made[:, at] = kept * scales
        errors[:, at] = (now[:, at] - kept.round() * scales) / factor[at, at]
        now[:, at:] -= errors[:, at, None] * factor[at, at:]
    return made, errors


def best_scales(block: Tensor, weights: Tensor, grid: Grid) -> Tensor:
    """Of each row's 32 numbers the scale with the least weighed squared error, as a half.

    Args:
        block: the numbers [out, 32].
        weights: of their errors [out, 32].
        grid: the levels.
    """
    widest = block.gather(1, block.abs().argmax(dim=1, keepdim=True))[:, 0]
    if grid.bits != _SEARCHED:
        return (widest.abs() / grid.highest).half().to(block.dtype)
    best, most = torch.zeros_like(widest), torch.full_like(widest, -1)
    for step in _STEPS:
        levels = block * inverse(widest / (grid.lowest - step))[:, None]
        levels = levels.round_().clamp_(grid.lowest, grid.highest)
        weighed = weights * levels
        # Least squares for these levels: scale = Σ w·x·l / Σ w·l², which takes
        # (Σ w·x·l)² / Σ w·l² off the error.
        product, square = (weighed * block).sum(1), (weighed * levels).sum(1)
        scale = torch.where(square > 0, product / square, 0)
        better = product * scale > most
        most, best = torch.where(better, product * scale, most), torch.where(better, scale, best)
    return best.half().to(block.dtype)
