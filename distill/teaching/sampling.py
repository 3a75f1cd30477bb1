"""Some words of a teacher's distribution, which stand for all of it.

n words drawn with replacement, as counts / n, are the distribution on average, so that a
student learns from them what it would learn from all (Random Sampling KD, arXiv 2503.16870,
section 4). Each draw takes a uniform number from a generator that counts (Philox, Salmon et
al. 2011): it depends on seed, sequence and position alone, so a cache that is taken up again
holds what it would have held.

*Stratified*, draw i takes its number from [i/n, (i+1)/n). A word's expected count is n p as
before, its variance never larger: for a word of p = 0.9, of 12 draws 10, 11 or 12 are it.

Shapes: T tokens, b some of them, V vocabulary, n draws, k words.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - its name everywhere
from torch import Tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["draw", "likeliest", "uniforms"]

_TOGETHER = 256
"""Words whose probabilities are added up first, so that a few sums tell where a draw falls."""


def uniforms(
    seed: int, sequence: int, length: int, n: int, *, stratified: bool
) -> NDArray[np.float64]:
    """Numbers of [0, 1) for the draws [T, n] of a sequence, ascending for each token.

    Args:
        seed: of the whole cache, below 2⁶⁴.
        sequence: its index.
        length: T.
        n: draws for each token.
        stratified: one from each n-th of the interval.
    """
    # Raw numbers are the same in every version of numpy, which for distributions is not promised.
    generator = np.random.Philox(key=np.array([seed, sequence], np.uint64))
    raw = generator.random_raw(length * n).reshape(length, n)
    made: NDArray[Any] = (raw >> np.uint64(11)) * 2.0**-53
    return (np.arange(n) + made) / n if stratified else np.sort(made, axis=1)


@torch.no_grad()
def draw(logits: Tensor, numbers: Tensor) -> Tensor:
    """Words [b, n] drawn from softmax(logits), ascending where the numbers are.

    Args:
        logits: [b, V], finite.
        numbers: uniform [b, n], float64.
    """
    logits = logits.float()
    p = (logits - logits.amax(-1, keepdim=True)).exp_()
    p = F.pad(p, (0, -p.shape[1] % _TOGETHER)).unflatten(1, (-1, _TOGETHER))  # type: ignore[no-untyped-call]
    sums = p.sum(-1, dtype=torch.float64).cumsum(-1)  # [b, parts]
    aim = _below(numbers * sums[:, -1:], sums[:, -1:])
    part = torch.searchsorted(sums, aim, right=True)  # [b, n]
    before = F.pad(sums, (1, 0)).gather(1, part)
    rows = torch.arange(len(p), device=p.device)[:, None]
    within = p[rows, part].cumsum(-1, dtype=torch.float64)  # [b, n, _TOGETHER]
    rest = _below((aim - before)[..., None], within[..., -1:])
    return part * _TOGETHER + torch.searchsorted(within, rest, right=True)[..., 0]


def _below(values: Tensor, limit: Tensor) -> Tensor:
    """`values`, less than `limit`, which rounding may have made them: there is no word there."""
    return torch.minimum(values, torch.nextafter(limit, torch.zeros_like(limit)))


@torch.no_grad()
def likeliest(logits: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k words of the largest logits [b, V], and their probabilities, each [b, k].

    In the order of their ids. A student that has nothing but these learns to be too sure.
    """
    top = logits.float().log_softmax(-1).topk(k)
    ids, order = top.indices.sort(-1)
    return ids, top.values.exp().gather(-1, order)
