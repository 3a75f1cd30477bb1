"""A teacher in this process, on the student's device or another."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from distill.losses.divergences import Divergence, forward_kl
from distill.teaching.attention import LastAttention
from distill.teaching.targets import Dense

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM

__all__ = ["Online"]

_TOKENS = 8192
"""Which the teacher reads at once; what is between its layers takes memory for each."""


class Online:
    """A Llama model that speaks as it is asked.

    Args:
        model: the teacher, wherever it is; it is frozen here.
        divergence: what a student's loss is.
        tokens: how many it reads at once, in whole sequences and at least one.
        attention: whether queries, keys and values of its last layer are told, too.
    """

    def __init__(
        self,
        model: LlamaForCausalLM,
        divergence: Divergence = forward_kl,
        tokens: int = _TOKENS,
        *,
        attention: bool = False,
    ) -> None:
        self._model = model.eval().requires_grad_(False)  # type: ignore[no-untyped-call]
        self._divergence = divergence
        self._tokens = tokens
        self._head: Tensor = model.lm_head.weight.detach()
        self._attention = LastAttention(model.model.layers[-1]) if attention else None

    @torch.no_grad()
    def targets(self, index: int, ids: Tensor) -> Dense:  # noqa: ARG002 - it needs no order
        """All of its distribution after each token of ids [B, T], on their device."""
        step = max(1, self._tokens // ids.shape[1])
        # On the student's device from now on: it is as large as the student's own, or so.
        self._head = self._head.to(ids.device)
        hidden, attention = zip(*map(self._read, torch.split(ids, step)), strict=True)
        return Dense(
            torch.cat(hidden).to(ids.device),
            self._head,
            self._divergence,
            {
                name: torch.cat([each[name] for each in attention]).to(ids.device)
                for name in attention[0]
            },
        )

    def _read(self, ids: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Hidden states, and what is told of the attention."""
        place = self._model.get_input_embeddings().weight.device
        if self._attention is not None:
            self._attention.begin()
        said = self._model.model(input_ids=ids.to(place), use_cache=False)
        heard = {} if self._attention is None else self._attention.end()
        return said.last_hidden_state, heard
