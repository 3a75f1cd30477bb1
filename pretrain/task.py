"""What is learned: an objective, and what it compares a sequence's predictions with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from pretrain.objective import CrossEntropy
from pretrain.part import Objective, Part, Wanted

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["NextToken", "Task"]


class Task(Protocol):
    """Distillation has others than training on text."""

    @property
    def taught_by(self) -> str:
        """Identity of who teaches, the same in every process; empty: the text alone does."""

    @property
    def objective(self) -> Objective:
        """What is to become small."""

    def attach(self, part: Part) -> None:
        """Called once, with this process's share of the model."""

    def wanted(self, indices: range, ids: Tensor) -> Wanted:
        """What the objective compares with.

        Args:
            indices: of the sequences in the order of the training.
            ids: their tokens [B, T + 1], on the device.
        """


class NextToken:
    """The text itself: at each token, the one that follows."""

    taught_by = ""
    objective: Objective = CrossEntropy()

    def attach(self, part: Part) -> None:
        """It asks for predictions alone."""

    def wanted(self, indices: range, ids: Tensor) -> Wanted:  # noqa: ARG002 - the text says all
        """`labels` [B, T]."""
        return {"labels": ids[:, 1:]}
