"""KL divergence of predictions, computed from hidden states through a frozen output matrix.

The logits of a thousand tokens over 50,000 words take 200 MB, and their gradients again. As
the output matrix is not trained, the gradient of the hidden states is known as soon as the
logits are: ∂KL(p‖q)/∂h = (q − p) · W. So logits live for a few tokens at a time, in the
forward pass alone.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - its name everywhere
from torch import Tensor

__all__ = ["divergence"]

_TOKENS = 256
"""Whose logits are in memory together."""


def divergence(student: Tensor, teacher: Tensor, head: Tensor) -> Tensor:
    """Mean KL(teacher‖student) in nats, over tokens.

    Args:
        student: hidden states [T, W] behind the last norm.
        teacher: the same of the teacher; no gradient flows into it.
        head: the output matrix [V, W] of both; nor into this.
    """
    loss: Tensor = _Divergence.apply(student, teacher, head)  # type: ignore[no-untyped-call]
    return loss


class _Divergence(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor, head: Tensor) -> Tensor:
        total = student.new_zeros((), dtype=torch.float32)
        gradient = torch.empty_like(student)
        for at in range(0, len(student), _TOKENS):
            some = slice(at, at + _TOKENS)
            found = F.log_softmax((student[some] @ head.T).float(), dim=-1)
            wanted = F.log_softmax((teacher[some] @ head.T).float(), dim=-1)
            p = wanted.exp()
            total += (p * (wanted - found)).sum()
            gradient[some] = (found.exp_() - p).to(student.dtype) @ head
        ctx.save_for_backward(gradient)
        ctx.tokens = len(student)
        return total / len(student)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (outer,) = gradients
        (gradient,) = ctx.saved_tensors
        return gradient * (outer / ctx.tokens), None, None
