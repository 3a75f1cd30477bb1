"""Distances from a teacher for `pretrain.fused.fused_mean`, which has no logits of all tokens.

Shapes: … any dimensions, as [B, T]; U width of the teacher, V vocabulary, K words.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from distill.losses.divergences import Divergence, forward_kl, sampled
from pretrain.fused import PerToken

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["from_sample", "from_teacher"]


def from_teacher(hidden: Tensor, head: Tensor, divergence: Divergence = forward_kl) -> PerToken:
    """A divergence of a token from what a teacher says of it, in nats.

    Args:
        hidden: the teacher's hidden states […, U] behind its last norm; no gradient flows into it.
        head: its output matrix [V, U]; nor into this.
        divergence: one of `divergences`; with settings by `functools.partial`.
    """
    wanted = hidden.detach().flatten(0, -2)
    matrix = head.detach()

    def per_token(logits: Tensor, some: slice) -> Tensor:
        teacher = wanted[some].to(matrix.dtype) @ matrix.T
        return divergence(logits, teacher.to(logits.dtype))

    return per_token


def from_sample(ids: Tensor, weights: Tensor) -> PerToken:
    """−Σ w log q(id) of a token, in nats; see `divergences.sampled`.

    Args:
        ids: words drawn from the teacher […, K].
        weights: their weights […, K], 0 where a place is not used.
    """
    words, shares = ids.flatten(0, -2), weights.detach().flatten(0, -2)

    def per_token(logits: Tensor, some: slice) -> Tensor:
        return sampled(logits, words[some], shares[some].to(logits.dtype))

    return per_token
