"""What is inside a teacher, as a student may be asked for it besides its predictions.

Shapes: … any dimensions, as [B, T]; B batch, T tokens, W width of the student, U width of the
teacher, H heads.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - its name everywhere
from torch import Tensor

from distill.losses.divergences import mean

__all__ = ["attention_kl", "hidden_cosine", "hidden_mse", "relation_kl"]


def hidden_mse(
    student: Tensor, teacher: Tensor, projection: Tensor | None = None, mask: Tensor | None = None
) -> Tensor:
    """The mean over tokens and components of (h P − t)² (TinyBERT, arXiv 1909.10351, equation 8).

    Args:
        student: hidden states […, W].
        teacher: hidden states […, U] of the layer that is to be followed.
        projection: P [W, U], which is trained with the student; None where W = U.
        mask: which tokens count […], bool; None: all.
    """
    return mean((_projected(student, projection) - teacher).square().mean(-1), mask)


def hidden_cosine(
    student: Tensor, teacher: Tensor, projection: Tensor | None = None, mask: Tensor | None = None
) -> Tensor:
    """The mean over tokens of 1 − cos(h P, t) (DistilBERT, arXiv 1910.01108, section 2).

    Takes no notice of lengths, which the last norm takes away in any case.

    Args:
        student: hidden states […, W].
        teacher: hidden states […, U] of the layer that is to be followed.
        projection: P [W, U], which is trained with the student; None where W = U.
        mask: which tokens count […], bool; None: all.
    """
    return mean(1 - F.cosine_similarity(_projected(student, projection), teacher, dim=-1), mask)


def attention_kl(student: Tensor, teacher: Tensor, mask: Tensor | None = None) -> Tensor:
    """The mean over heads and tokens of KL(teacher's attention ‖ student's), in nats.

    MiniLM's first term (arXiv 2002.10957, equation 4); both have as many heads.

    Args:
        student: attention scores [B, H, T, T] before the softmax, −inf on what lies ahead.
        teacher: the same of the teacher.
        mask: which tokens count [B, T], bool; None: all.
    """
    q, p = F.log_softmax(student, -1), F.log_softmax(teacher, -1)
    # What lies ahead is −inf in both, and −inf − −inf is no number.
    ahead = torch.isneginf(p)
    gap = torch.where(ahead, 0, p) - torch.where(ahead, 0, q)
    return mean((p.exp() * gap).sum(-1).mean(1), mask)


def relation_kl(student: Tensor, teacher: Tensor, heads: int, mask: Tensor | None = None) -> Tensor:
    """`attention_kl` of how queries (or keys, or values) of the tokens relate to each other.

    MiniLMv2's relations (arXiv 2012.15828, section 3.1): softmax(A Aᵀ / √d), causal. Widths and
    heads of the two models may differ, and no attention scores are needed, which the fast
    kernels do not give.

    Args:
        student: queries, keys or values of a layer [B, T, any width].
        teacher: the same of the teacher [B, T, any width].
        heads: in how many relations each is split; it divides both widths.
        mask: which tokens count [B, T], bool; None: all.
    """
    return attention_kl(_relation(student, heads), _relation(teacher, heads), mask)


def _projected(student: Tensor, projection: Tensor | None) -> Tensor:
    return student if projection is None else student @ projection


def _relation(vectors: Tensor, heads: int) -> Tensor:
    """Scores [B, heads, T, T] of vectors [B, T, width]."""
    batch, length, _ = vectors.shape
    split = vectors.reshape(batch, length, heads, -1).transpose(1, 2)  # [B, heads, T, d]
    scores: Tensor = split @ split.mT / split.shape[-1] ** 0.5
    ahead = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)
    return scores.masked_fill(ahead, -torch.inf)
