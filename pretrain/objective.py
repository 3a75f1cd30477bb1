"""Cross-entropy: the plain objective of training on text."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - its name everywhere
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from pretrain.part import Wanted

__all__ = ["IGNORED", "CrossEntropy"]

IGNORED = -100
"""A label that does not count."""
_TOGETHER = 256


class CrossEntropy:
    """−log q(next token), the mean over tokens; wants `labels` [B, T].

    Tokens labelled `IGNORED` add nothing, and are counted.
    """

    def __call__(self, hidden: Tensor, head: nn.Module, wanted: Wanted) -> Tensor:
        """The mean over tokens, in nats."""
        rows, labels = hidden.flatten(0, 1), wanted["labels"].flatten()
        total = torch.zeros((), device=hidden.device)
        for at in range(0, len(rows), _TOGETHER):
            some = slice(at, at + _TOGETHER)
            total = total + checkpoint(
                _of_block, rows[some], head, labels[some], use_reentrant=False
            )
        return total / len(labels)


def _of_block(hidden: Tensor, head: nn.Module, labels: Tensor) -> Tensor:
    return F.cross_entropy(head(hidden).float(), labels, ignore_index=IGNORED, reduction="sum")
