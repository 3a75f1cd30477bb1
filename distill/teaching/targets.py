"""What a teacher wants to hear, in one of two forms, and how far a student is from it.

Shapes: B batch, T tokens, U width of the teacher, V vocabulary, K words.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from distill.losses.divergences import Divergence, forward_kl
from distill.losses.fused import from_sample, from_teacher
from pretrain.fused import PerToken

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
    attention: Mapping[str, Tensor] = field(default_factory=dict)
    """Where it is asked for, queries, keys and values of the last layer, each [B, T, its width]."""

    def per_token(self) -> PerToken:
        """The divergence of a token, for `pretrain.fused.fused_mean`."""
        return from_teacher(self.hidden, self.head, self.divergence)


@dataclass(frozen=True)
class Sampled:
    """Some words of a teacher's distribution and their weights; the weight 0 fills up."""

    ids: Tensor
    """Words [B, T, K], int64."""
    weights: Tensor
    """Their weights [B, T, K], float32: counts / n of n draws, or probabilities."""

    def per_token(self) -> PerToken:
        """−Σ w log q: a KL divergence and the teacher's entropy; as `Dense.per_token`."""
        return from_sample(self.ids, self.weights)


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
