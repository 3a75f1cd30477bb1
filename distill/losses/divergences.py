"""How far a student's predictions are from a teacher's, token by token, in nats.

With p the teacher's probabilities and q the student's, over V words:

    forward_kl            KL(p ‖ q)                    what is usual; q covers all that p says
    reverse_kl            KL(q ‖ p)                    q says only what p says, too
    skewed_forward_kl     KL(p ‖ αp + (1−α)q)          the same two, bounded where the other
    skewed_reverse_kl     KL(q ‖ αq + (1−α)p)          is almost zero
    jensen_shannon        β KL(p ‖ m) + (1−β) KL(q ‖ m)    m = βp + (1−β)q
    sampled               −Σ w log q                   w: a sample of p

A temperature τ divides all logits first and multiplies the divergence by τ², so that
gradients stay of one size (Hinton, Vinyals and Dean 2015, arXiv 1503.02531, section 2).

Shapes: … any dimensions, as [B, T]; B batch, T tokens, V vocabulary, K words of a sample.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812 - its name everywhere
from torch import Tensor

__all__ = [
    "Divergence",
    "forward_kl",
    "jensen_shannon",
    "reverse_kl",
    "sampled",
    "skewed_forward_kl",
    "skewed_reverse_kl",
]

Divergence = Callable[[Tensor, Tensor], Tensor]
"""Of the student's logits […, V] and the teacher's […, V]: nats […]."""


def forward_kl(student: Tensor, teacher: Tensor, *, temperature: float = 1.0) -> Tensor:
    """τ² KL(p ‖ q) […] of logits […, V]: Hinton's, and Minitron's only term (arXiv 2407.14679)."""
    q, p = _log_probabilities(student, teacher, temperature)
    return temperature**2 * _kl(p, q)


def reverse_kl(student: Tensor, teacher: Tensor, *, temperature: float = 1.0) -> Tensor:
    """τ² KL(q ‖ p) […] of logits […, V], as MiniLLM (arXiv 2306.08543)."""
    q, p = _log_probabilities(student, teacher, temperature)
    return temperature**2 * _kl(q, p)


def skewed_forward_kl(
    student: Tensor, teacher: Tensor, *, alpha: float = 0.1, temperature: float = 1.0
) -> Tensor:
    """τ² KL(p ‖ αp + (1−α)q) […] of logits […, V] (DistiLLM, arXiv 2402.03898, section 3.1).

    At most −log α; 0 ≤ α < 1, and α = 0 is `forward_kl`.
    """
    q, p = _log_probabilities(student, teacher, temperature)
    return temperature**2 * _kl(p, _mixture(p, q, alpha))


def skewed_reverse_kl(
    student: Tensor, teacher: Tensor, *, alpha: float = 0.1, temperature: float = 1.0
) -> Tensor:
    """τ² KL(q ‖ αq + (1−α)p) […] of logits […, V] (DistiLLM, arXiv 2402.03898, section 3.1).

    At most −log α; 0 ≤ α < 1, and α = 0 is `reverse_kl`.
    """
    q, p = _log_probabilities(student, teacher, temperature)
    return temperature**2 * _kl(q, _mixture(q, p, alpha))


def jensen_shannon(
    student: Tensor, teacher: Tensor, *, beta: float = 0.5, temperature: float = 1.0
) -> Tensor:
    """τ² (β KL(p ‖ m) + (1−β) KL(q ‖ m)) […] of logits […, V], m = βp + (1−β)q.

    GKD's generalized form (arXiv 2306.13649, equation 1), 0 < β < 1. It vanishes at both ends:
    divided by β it goes to the forward KL as β goes to 0, by 1−β to the reverse as to 1.
    """
    q, p = _log_probabilities(student, teacher, temperature)
    m = _mixture(p, q, beta)
    return temperature**2 * (beta * _kl(p, m) + (1 - beta) * _kl(q, m))


def sampled(student: Tensor, ids: Tensor, weights: Tensor) -> Tensor:
    """−Σ w log q(id) […] of logits […, V], words ids […, K] and their weights […, K].

    With w = counts / n of n words drawn from p, its mean over draws is −Σ p log q, which is
    KL(p ‖ q) and a constant, the teacher's entropy: values lie that much above `forward_kl`,
    gradients are the same on average (Random Sampling KD, arXiv 2503.16870, section 4). With
    the probabilities of the K likeliest words the gradient is biased: q ends at w / Σ w, too
    sure of these and blind to all others (section 3).

    A place that is not used has the weight 0 and any word of the vocabulary.
    """
    chosen = student.gather(-1, ids)  # […, K]
    # No log of all V words: only those that were drawn count.
    return weights.sum(-1) * student.logsumexp(-1) - (weights * chosen).sum(-1)


def _log_probabilities(
    student: Tensor, teacher: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    return F.log_softmax(student / temperature, -1), F.log_softmax(teacher / temperature, -1)


def _kl(p: Tensor, q: Tensor) -> Tensor:
    """KL(p ‖ q) […] of log-probabilities […, V]."""
    return (p.exp() * (p - q)).sum(-1)


def _mixture(p: Tensor, q: Tensor, share: float) -> Tensor:
    """log(share p + (1 − share) q) of log-probabilities."""
    log_share = math.log(share) if share else -math.inf
    return torch.logaddexp(p + log_share, q + math.log1p(-share))
