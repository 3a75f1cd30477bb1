"""Cross-entropy: the plain objective of training on text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pretrain.fused import fused_cross_entropy
from pretrain.part import Wanted

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["CrossEntropy"]


class CrossEntropy:
    """−log q(next token), the mean over tokens; wants `labels` [B, T]."""

    def __call__(self, hidden: Tensor, head: Tensor, wanted: Wanted) -> Tensor:
        """The mean over tokens, in nats; see `fused_cross_entropy`."""
        return fused_cross_entropy(hidden, head, wanted["labels"])
