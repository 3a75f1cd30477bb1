"""What decides the result of a healing, and the schedule that follows from it."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from pydantic import BaseModel, Field, PositiveInt

__all__ = ["Recipe"]


class Recipe(BaseModel, frozen=True, extra="forbid"):
    """Two trainings with the same recipe end with the same numbers, stopped on the way or not."""

    source: str
    """The model, by a hash of its bundle or of what its files are."""
    texts: str
    """SHA-256 of the tokens that it is trained on."""
    bits: Literal[4, 8]
    """Of the levels."""
    steps: PositiveInt = 100
    """Updates of the weights."""
    batch: PositiveInt = 4
    """Pieces of text for each step, over all processes."""
    length: int = Field(default=256, ge=2)
    """Tokens of a piece."""
    learning_rate: float = Field(gt=0, le=1, allow_inf_nan=False)
    """Of weights, at its peak."""
    seed: int = 0
    """Of the order of the pieces."""

    def rate(self, step: int) -> float:
        """The learning rate of a step: up in a line, then down by half a cosine, to zero."""
        rising = max(1, min(20, self.steps // 10))
        up = min(1.0, (step + 1) / rising)
        return self.learning_rate * up * 0.5 * (1 + math.cos(math.pi * step / self.steps))

    def pieces(self, step: int, n: int) -> list[int]:
        """Which of `n` pieces a step reads: all of them once, in any order, then all again."""
        first = step * self.batch
        return [self._order(at // n, n)[at % n] for at in range(first, first + self.batch)]

    def _order(self, epoch: int, n: int) -> list[int]:
        order: list[int] = np.random.default_rng([self.seed, epoch]).permutation(n).tolist()
        return order
