"""What is inside a teacher, as a student may be asked for it besides its predictions.

Both need neither a matrix between the two models, which would be trained and thrown away, nor
attention scores, which the fast kernels do not give.

Shapes: … any dimensions, as [B, T]; B batch, T tokens, W width of both; A, C widths of queries,
keys or values, H heads.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - its name everywhere
from torch import Tensor
from torch.utils.checkpoint import checkpoint

__all__ = ["hidden_cosine", "relation_kl"]


def hidden_cosine(student: Tensor, teacher: Tensor) -> Tensor:
    """The mean over tokens of 1 − cos(h, t) (DistilBERT, arXiv 1910.01108, section 2).

    Takes no notice of lengths, which the last norm takes away in any case.

    Args:
        student: hidden states […, W].
        teacher: hidden states […, W].
    """
    return 1 - F.cosine_similarity(_precise(student), _precise(teacher), dim=-1).mean()


def relation_kl(student: Tensor, teacher: Tensor, heads: int) -> Tensor:
    """The mean over tokens and heads of KL(teacher's relation ‖ student's), in nats.

    How queries (or keys, or values) of the tokens relate to each other: softmax(A Aᵀ / √d), of
    each token to itself and those before it (MiniLMv2, arXiv 2012.15828, section 3.1, made
    causal). Widths and heads of the two models may differ.

    Args:
        student: queries, keys or values of a layer [B, T, A].
        teacher: the same of the teacher [B, T, C].
        heads: in how many relations each is split; it divides both widths.
    """
    # Relations [H, T, T] of one sequence at a time are in memory, and for its gradient again.
    each = [
        checkpoint(_relation_kl, one, other, heads, use_reentrant=False, preserve_rng_state=False)
        for one, other in zip(student, teacher, strict=True)
    ]
    return torch.stack(each).mean()


def _relation_kl(student: Tensor, teacher: Tensor, heads: int) -> Tensor:
    """Of one sequence: [T, A] and [T, C]."""
    with torch.autocast(student.device.type, enabled=False):
        q, p = _relation(student, heads), _relation(teacher, heads)
        # What lies ahead is −inf in both, and −inf − −inf is no number.
        gap = (p - q).masked_fill(torch.isneginf(p), 0)
        return (p.exp() * gap).sum(-1).mean()


def _relation(vectors: Tensor, heads: int) -> Tensor:
    """Log-probabilities [H, T, T] of vectors [T, width]."""
    split = _precise(vectors).reshape(len(vectors), heads, -1).transpose(0, 1)  # [H, T, d]
    scores = split @ split.mT / split.shape[-1] ** 0.5
    ahead = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)
    return F.log_softmax(scores.masked_fill(ahead, -torch.inf), -1)


def _precise(vectors: Tensor) -> Tensor:
    """In float32 at least: in bfloat16 two states that are almost the same would be the same."""
    return vectors.to(torch.promote_types(vectors.dtype, torch.float32))
