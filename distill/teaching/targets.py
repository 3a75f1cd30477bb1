"""What a teacher wants to hear, in one of two forms, and how far a student is from it.

Shapes: B batch, T tokens, W width of the student, U width of the teacher, V vocabulary, K words.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from distill.losses.divergences import Divergence, forward_kl
from distill.losses.fused import fused_divergence, fused_sampled

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Dense", "Sampled", "Targets", "Teacher"]


@dataclass(frozen=True)
class Dense:
    """All of a teacher's distribution, as the hidden states and the matrix that make it."""

    hidden: Tensor
    """Behind the last norm [B, T, U]."""
    head: Tensor
    """The output matrix [V, U]."""
    divergence: Divergence = forward_kl
    """What is made small."""

    def loss(
        self,
        hidden: Tensor,
        head: Tensor,
        *,
        mask: Tensor | None = None,
        tokens: float | None = None,
    ) -> Tensor:
        """The mean divergence in nats; see `losses.fused.fused_divergence`.

        Args:
            hidden: the student's hidden states [B, T, W] behind its last norm.
            head: its output matrix [V, W].
            mask: which tokens count [B, T], bool; None: all.
            tokens: what to divide by in place of their number.
        """
        return fused_divergence(
            hidden, head, self.hidden, self.head, self.divergence, mask=mask, tokens=tokens
        )


@dataclass(frozen=True)
class Sampled:
    """Some words of a teacher's distribution and their weights; the weight 0 fills up."""

    ids: Tensor
    """Words [B, T, K], int64."""
    weights: Tensor
    """Their weights [B, T, K], float32: counts / n of n draws, or probabilities."""

    def loss(
        self,
        hidden: Tensor,
        head: Tensor,
        *,
        mask: Tensor | None = None,
        tokens: float | None = None,
    ) -> Tensor:
        """The mean of −Σ w log q in nats: a KL divergence and the teacher's entropy.

        Args:
            hidden: the student's hidden states [B, T, W] behind its last norm.
            head: its output matrix [V, W].
            mask: which tokens count [B, T], bool; None: all.
            tokens: what to divide by in place of their number.
        """
        return fused_sampled(hidden, head, self.ids, self.weights, mask=mask, tokens=tokens)


Targets = Dense | Sampled


class Teacher(Protocol):
    """Says what it would say after each token of some sequences."""

    def targets(self, index: int, ids: Tensor) -> Targets:
        """What it wants to hear.

        Args:
            index: which sequence of the training's order the first is; the others follow it.
            ids: their tokens [B, T], without the last one, after which nothing is known.
        """
        ...
