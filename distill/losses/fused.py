"""Distances from a teacher by hidden states and output matrices: see `pretrain.fused`.

Shapes: … any dimensions, as [B, T]; W width of the student, V vocabulary, K words.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from distill.losses.divergences import Divergence, forward_kl, sampled
from pretrain.fused import PerToken, chosen, fused_mean

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["from_sample", "from_teacher", "fused_divergence", "fused_sampled"]


def fused_divergence(
    hidden: Tensor,
    head: Tensor,
    teacher_hidden: Tensor,
    teacher_head: Tensor,
    divergence: Divergence = forward_kl,
    *,
    mask: Tensor | None = None,
    tokens: float | None = None,
) -> Tensor:
    """The mean over tokens of a divergence from the teacher, in nats.

    Args:
        hidden: the student's hidden states […, W] behind its last norm.
        head: its output matrix [V, W].
        teacher_hidden: the same of the teacher […, its width]; no gradient flows into it.
        teacher_head: the teacher's output matrix [V, its width]; nor into this.
        divergence: one of `divergences`; with settings by `functools.partial`.
        mask: which tokens count […], bool; None: all.
        tokens: what to divide by in place of their number.
    """
    per_token = from_teacher(teacher_hidden, teacher_head, divergence, mask)
    return fused_mean(hidden, head, per_token, mask, tokens)


def from_teacher(
    teacher_hidden: Tensor,
    teacher_head: Tensor,
    divergence: Divergence = forward_kl,
    mask: Tensor | None = None,
) -> PerToken:
    """A divergence of a token, for `fused_mean` with the same mask; see `fused_divergence`."""
    wanted = chosen(teacher_hidden, mask).detach()
    matrix = teacher_head.detach()

    def per_token(logits: Tensor, some: slice) -> Tensor:
        teacher = wanted[some].to(matrix.dtype) @ matrix.T
        return divergence(logits, teacher.to(logits.dtype))

    return per_token


def fused_sampled(
    hidden: Tensor,
    head: Tensor,
    ids: Tensor,
    weights: Tensor,
    *,
    mask: Tensor | None = None,
    tokens: float | None = None,
) -> Tensor:
    """The mean over tokens of −Σ w log q(id), in nats; see `divergences.sampled`.

    Args:
        hidden: the student's hidden states […, W] behind its last norm.
        head: its output matrix [V, W].
        ids: words drawn from the teacher […, K].
        weights: their weights […, K], 0 where a place is not used.
        mask: which tokens count […], bool; None: all.
        tokens: what to divide by in place of their number.
    """
    return fused_mean(hidden, head, from_sample(ids, weights, mask), mask, tokens)


def from_sample(ids: Tensor, weights: Tensor, mask: Tensor | None = None) -> PerToken:
    """−Σ w log q(id) of a token, for `fused_mean` with the same mask; see `fused_sampled`."""
    words, shares = chosen(ids, mask), chosen(weights, mask).detach()

    def per_token(logits: Tensor, some: slice) -> Tensor:
        return sampled(logits, words[some], shares[some].to(logits.dtype))

    return per_token
