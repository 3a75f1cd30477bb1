"""Rounding that can be trained through: fake quantization.

Forward, a weight is what the file will hold: a level times its block's scale, a half. Backward,
rounding counts as if it were not there (the straight-through estimator, Bengio et al. 2013,
arXiv 1308.3432), except that a weight beyond the outermost level is not pushed any further.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from quantize.grid import BLOCK, Grid

__all__ = ["Rounding", "as_levels", "inverse"]


def inverse(scales: Tensor) -> Tensor:
    """1 / scale, and 0 for a block of zeros."""
    return torch.where(scales != 0, 1 / scales, 0)


def as_levels(weight: Tensor, scales: Tensor, grid: Grid) -> Tensor:
    """The nearest level to each weight [out, in], as int8.

    Args:
        weight: [out, in]
        scales: of its blocks [out, in / 32], which are halves in a file.
        grid: the levels.
    """
    levels = _ratios(weight, scales).round_().clamp_(grid.lowest, grid.highest)
    return levels.to(torch.int8).reshape(weight.shape)


def _ratios(weight: Tensor, scales: Tensor) -> Tensor:
    """How many scales each weight is [out, in / 32, 32]."""
    return weight.reshape(len(weight), -1, BLOCK) * inverse(scales)[..., None]


class _Round(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, scales: Tensor, grid: Grid) -> Tensor:
        ratios = _ratios(weight, scales)
        inside = (ratios > grid.lowest - 0.5) & (ratios < grid.highest + 0.5)
        ctx.save_for_backward(inside.reshape(weight.shape))
        levels = ratios.round_().clamp_(grid.lowest, grid.highest)
        return (levels * scales[..., None]).reshape(weight.shape)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (inside,) = ctx.saved_tensors
        return gradients[0] * inside, None, None


class Rounding(nn.Module):
    """A parametrization (`torch.nn.utils.parametrize`) of a linear layer's weight.

    Args:
        scales: [out, in / 32], numbers that a half can hold. They are not trained: that was
            tried, and gained nothing.
        grid: the levels.
    """

    scales: Tensor

    def __init__(self, scales: Tensor, grid: Grid) -> None:
        super().__init__()
        self.register_buffer("scales", scales)
        self.grid = grid

    def forward(self, weight: Tensor) -> Tensor:
        """[out, in] as it is used."""
        rounded: Tensor = _Round.apply(weight, self.scales, self.grid)  # type: ignore[no-untyped-call]
        return rounded
