"""How far one model's predictions are from another's, position by position of a text.

All figures are those of `llama-perplexity --kl-divergence` (tools/perplexity), defined in the
same way, so that they can be held against what others post:

- *KL divergence* D(P‖Q) = Σ p · ln(p / q) over the vocabulary, where P is the reference;
  tokens below e⁻¹⁶ are left out;
- *perplexity ratio* exp(mean ln q(x) difference) over the tokens x that really come next;
- *same top*: how often both find the same token likeliest;
- *Δp*: by how much the probability of the token that really comes next changes.

Each mean has its standard error; that of the ratio counts how the two models' errors go
together. Legend of shapes: T positions, V tokens of the vocabulary, N positions in all.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


__all__ = ["Estimate", "Figures", "Positions", "compare", "summarise"]

_LEAST = -16.0
_ROWS = 32  # so that intermediate results stay in the processor's cache, or near


@dataclass(frozen=True, slots=True)
class Positions:
    """What was measured at each position: columns [N]."""

    nll: NDArray[np.float64]
    """−ln of the candidate's probability for the token that comes next."""
    nll_reference: NDArray[np.float64]
    """The same of the reference."""
    kld: NDArray[np.float64]
    same_top: NDArray[np.bool_]

    @classmethod
    def joined(cls, parts: Iterable[Positions]) -> Positions:
        """All positions of several texts."""
        each = list(parts)
        return cls(
            np.concatenate([part.nll for part in each]),
            np.concatenate([part.nll_reference for part in each]),
            np.concatenate([part.kld for part in each]),
            np.concatenate([part.same_top for part in each]),
        )


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean and its standard error."""

    value: float
    error: float

    def __str__(self) -> str:
        return f"{self.value:.6g} ± {self.error:.2g}"


@dataclass(frozen=True, slots=True)
class Figures:
    """A candidate against its reference."""

    n: int
    """Positions."""
    ppl: Estimate
    ppl_reference: Estimate
    ppl_ratio: Estimate
    kld: Estimate
    """Mean."""
    kld_99: float
    """99 % of positions are below."""
    same_top: Estimate
    """A share, 0 to 1."""
    delta_p: Estimate
    """Root of the mean square."""


def compare(
    reference: NDArray[np.float32], candidate: NDArray[np.float32], following: NDArray[np.int32]
) -> Positions:
    """Compare the logits [T, V] of two models, given the T tokens that follow."""
    nll, nll_reference = np.empty(len(following)), np.empty(len(following))
    kld = np.empty(len(following))
    for at in range(0, len(following), _ROWS):
        rows = slice(at, at + _ROWS)
        p = _log_softmax(reference[rows])  # [R, V]
        q = _log_softmax(candidate[rows])
        tokens = following[rows, None]
        nll[rows] = -np.take_along_axis(q, tokens, axis=1)[:, 0]
        nll_reference[rows] = -np.take_along_axis(p, tokens, axis=1)[:, 0]
        terms = np.where(p > _LEAST, np.exp(p) * (p - q), np.float32(0))
        kld[rows] = terms.sum(axis=1, dtype=np.float64)
    same_top = reference.argmax(axis=1) == candidate.argmax(axis=1)
    return Positions(nll, nll_reference, kld, same_top)


def _log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_sum = np.log(np.exp(shifted).sum(axis=1, keepdims=True, dtype=np.float64))
    difference: NDArray[np.float32] = shifted - log_sum.astype(np.float32)
    return difference


def summarise(positions: Positions) -> Figures:
    """Means and standard errors over all positions, of which there are at least two."""
    n = len(positions.kld)
    log_ppl, log_ppl_reference = _mean(positions.nll), _mean(positions.nll_reference)
    # The error of a difference of two means over the same positions.
    log_ratio = _mean(positions.nll - positions.nll_reference)
    delta_p = np.exp(-positions.nll) - np.exp(-positions.nll_reference)
    square = _mean(delta_p * delta_p)
    root = float(np.sqrt(square.value))
    same = float(positions.same_top.mean())
    return Figures(
        n=n,
        ppl=_exp(log_ppl),
        ppl_reference=_exp(log_ppl_reference),
        ppl_ratio=_exp(log_ratio),
        kld=_mean(positions.kld),
        kld_99=float(np.quantile(positions.kld, 0.99)),
        same_top=Estimate(same, float(np.sqrt(same * (1 - same) / (n - 1)))),
        delta_p=Estimate(root, 0.5 / root * square.error if root else 0.0),
    )


def _mean(values: NDArray[np.float64]) -> Estimate:
    n = len(values)
    variance = max(0.0, float(values.var()))
    return Estimate(float(values.mean()), float(np.sqrt(variance / (n - 1))))


def _exp(log: Estimate) -> Estimate:
    value = float(np.exp(log.value))
    return Estimate(value, value * log.error)
