"""What is asked of a student besides its predictions: to be inside as its teacher is."""

from __future__ import annotations

from math import gcd
from typing import TYPE_CHECKING

import torch

from distill.losses.features import hidden_cosine, relation_kl
from distill.recipe import Teaching
from distill.teaching.attention import PROJECTIONS, LastAttention
from edge.llama_config import LlamaConfig
from pretrain.part import Part, Wanted

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Inside"]


class Inside:
    """The terms of a loss about it.

    Args:
        told: their weights, of which one at least is not 0.
        student: its shape; where hidden states are compared, as wide as the teacher.
        teacher: its shape.
    """

    def __init__(self, told: Teaching, student: LlamaConfig, teacher: LlamaConfig) -> None:
        self._hidden = told.hidden
        self._attention = told.attention
        # A relation is of whole heads, in both models.
        queries = gcd(student.num_attention_heads, teacher.num_attention_heads)
        keys = gcd(student.num_key_value_heads, teacher.num_key_value_heads)
        self._relations = {"queries": queries, "keys": keys, "values": keys}
        self._student: LastAttention | None = None

    def attach(self, part: Part) -> None:
        """Hear the attention of the student, of which this part has the last layer."""
        if self._attention:
            self._student = LastAttention(part.blocks[-1])
            part.register_forward_pre_hook(self._begin)
            part.register_forward_hook(self._end)

    def loss(self, hidden: Tensor, wanted: Wanted) -> Tensor:
        """The weighted sum of the terms.

        Args:
            hidden: the student's hidden states [B, T, W] behind its last norm.
            wanted: the teacher's `hidden`, and its `queries`, `keys` and `values`.
        """
        terms = []
        if self._hidden:
            terms.append(self._hidden * hidden_cosine(hidden, wanted["hidden"]))
        if self._student is not None:
            own = self._student.end()
            terms += [
                self._attention / len(PROJECTIONS) * relation_kl(own[name], wanted[name], heads)
                for name, heads in self._relations.items()
            ]
        return torch.stack(terms).sum()

    # What a hook returns, torch would take in place of what is given, or said.
    def _begin(self, *_: object) -> None:
        assert self._student is not None  # noqa: S101 - as it is attached
        self._student.begin()

    def _end(self, *_: object) -> None:
        """Forget what nobody asked for: where text is held out, predictions alone are measured."""
        assert self._student is not None  # noqa: S101
        self._student.end()
