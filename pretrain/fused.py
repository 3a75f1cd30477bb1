"""Losses from hidden states and the output matrix, without the logits of all tokens.

Logits of 4,096 tokens over 65,024 words take 1 GB in float32, their gradient as much again,
and the teacher's the same. Here they live for a block of tokens at a time, and in the forward
pass alone: a loss is a sum over tokens, so its gradient by the logits of a block is known as
soon as the block is, and with it what the block adds to the gradients of hidden states and
output matrix. (The way of Liger Kernel's fused linear cross entropy, arXiv 2410.10989,
section 3.2, for any loss.)

Shapes: … any dimensions, as [B, T]; N tokens, W width of the student, V vocabulary, K words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - its name everywhere
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = [
    "IGNORED",
    "PerToken",
    "fused_cross_entropy",
    "fused_mean",
    "mixed",
    "next_token",
]

IGNORED = -100
"""A label that does not count."""
_LOGITS = {"cpu": 1 << 23}
_LOGITS_OF_AN_ACCELERATOR = 1 << 26
"""Of how many the values are in memory together, about six times over. Each block reads and
writes the gradient of the whole output matrix once, which on a fast device wants large ones."""

PerToken = Callable[[Tensor, slice], Tensor]
"""Of logits [b, V] of some tokens, and which of all N they are: nats [b]."""


def fused_cross_entropy(hidden: Tensor, head: Tensor, labels: Tensor) -> Tensor:
    """The mean over tokens of −log q(label), in nats.

    Args:
        hidden: hidden states […, W] behind the last norm.
        head: the output matrix [V, W].
        labels: the words that follow […]; `IGNORED` adds nothing, and is counted.
    """
    return fused_mean(hidden, head, next_token(labels))


def next_token(labels: Tensor) -> PerToken:
    """−log q(label) of a token.

    Args:
        labels: the words that follow […]; `IGNORED` adds nothing, and is counted.
    """
    wanted = labels.flatten()

    def per_token(logits: Tensor, some: slice) -> Tensor:
        return F.cross_entropy(logits, wanted[some], ignore_index=IGNORED, reduction="none")

    return per_token


def mixed(first: PerToken, second: PerToken, share: float) -> PerToken:
    """(1 − share) · first + share · second, of the same logits, which are computed once."""
    return lambda logits, some: (1 - share) * first(logits, some) + share * second(logits, some)


def fused_mean(hidden: Tensor, head: Tensor, per_token: PerToken) -> Tensor:
    """The mean over tokens of a loss of their logits, in its unit.

    Args:
        hidden: hidden states […, W] behind the last norm.
        head: the output matrix [V, W].
        per_token: called with logits [b, V] of some tokens, and which they are; gives their
            losses [b].
    """
    rows = hidden.flatten(0, -2)
    # A custom function cannot ask, in its forward pass, whether anybody wants a gradient.
    total: Tensor = _Blocks.apply(rows, head, per_token, torch.is_grad_enabled())  # type: ignore[no-untyped-call]
    return total / len(rows)


class _Blocks(torch.autograd.Function):
    """Σ over tokens of a loss of their logits, and its gradients, block by block."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, head: Tensor, per_token: PerToken, gradients: bool
    ) -> Tensor:
        wanted = [gradients and need for need in ctx.needs_input_grad[:2]]
        work = _Work(hidden, head, *wanted)
        with torch.autocast(hidden.device.type, enabled=False):
            for some in _blocks(hidden, head):
                work.add(some, per_token)
        ctx.save_for_backward(work.hidden_gradient, work.head_gradient)
        ctx.head_dtype = head.dtype
        return work.total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        hidden, head = ctx.saved_tensors
        return (
            None if hidden is None else hidden * outer.to(hidden.dtype),
            None if head is None else (head * outer).to(ctx.head_dtype),
            None,
            None,
        )


class _Work:
    """What is summed up while blocks go by."""

    def __init__(self, hidden: Tensor, head: Tensor, of_hidden: bool, of_head: bool) -> None:
        kind = hidden.device.type
        mixed = torch.is_autocast_enabled(kind)
        self._dtype = torch.get_autocast_dtype(kind) if mixed else hidden.dtype
        self._precise = torch.promote_types(self._dtype, torch.float32)
        self._hidden = hidden
        self._matrix = head.to(self._dtype)
        self.total = hidden.new_zeros((), dtype=self._precise)
        self.hidden_gradient = torch.empty_like(hidden) if of_hidden else None
        # In bfloat16 the sum of many blocks would lose what each of them adds.
        self.head_gradient = torch.zeros_like(head, dtype=self._precise) if of_head else None

    def add(self, some: slice, per_token: PerToken) -> None:
        """Count some tokens."""
        rows = self._hidden[some].to(self._dtype)  # [b, W]
        logits = (rows @ self._matrix.T).to(self._precise)  # [b, V]
        if self.hidden_gradient is None and self.head_gradient is None:
            self.total += per_token(logits, some).sum()
            return
        with torch.enable_grad():
            loss = per_token(logits.requires_grad_(), some).sum()
        self.total += loss.detach()
        gradient = torch.autograd.grad(loss, logits)[0].to(self._dtype)  # [b, V]
        if self.hidden_gradient is not None:
            self.hidden_gradient[some] = gradient @ self._matrix
        if self.head_gradient is not None and self._dtype == self._precise:
            self.head_gradient.addmm_(gradient.T, rows)
        elif self.head_gradient is not None:
            self.head_gradient += gradient.T @ rows


def _blocks(hidden: Tensor, head: Tensor) -> Iterator[slice]:
    room = _LOGITS.get(hidden.device.type, _LOGITS_OF_AN_ACCELERATOR)
    step = max(1, room // len(head))
    return (slice(at, at + step) for at in range(0, len(hidden), step))
