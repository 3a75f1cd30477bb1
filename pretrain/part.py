"""A part of a Llama model, of transformers' own blocks: some of its layers, or all.

The first part of a pipeline begins with tokens, the last ends with the loss. Parameters are
called as in a Hugging Face folder, whichever part they are in.

    B sequences   T tokens of each   W width of the residual stream
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.utils.checkpoint import checkpoint

from edge.llama_config import LlamaConfig

if TYPE_CHECKING:
    from transformers import LlamaConfig as TransformersConfig

__all__ = ["Objective", "Part", "Wanted", "share_of_layers", "transformers_config"]

Wanted = Mapping[str, Tensor]
"""What an objective compares with, by names of its own; each tensor begins with B."""


class Objective(Protocol):
    """What is to become small."""

    def __call__(self, hidden: Tensor, head: Tensor, wanted: Wanted) -> Tensor:
        """The mean over tokens, in nats.

        Args:
            hidden: hidden states [B, T, W] behind the last norm.
            head: the output matrix [V, W].
            wanted: what to compare with.
        """


class _Model(nn.Module):
    """What stands below `model.` in the names of a Hugging Face folder."""

    embed_tokens: nn.Embedding
    layers: nn.ModuleDict
    norm: nn.Module


class Part(nn.Module):
    """Layers of a model, with what comes before the first and after the last.

    Args:
        config: the shape of the whole model.
        layers: which of its layers.
        objective: what the last part ends with.
        recompute: compute activations again for gradients, instead of keeping them.
    """

    def __init__(
        self, config: LlamaConfig, layers: range, objective: Objective, *, recompute: bool = False
    ) -> None:
        from transformers.models.llama import modeling_llama as llama

        super().__init__()
        shape = transformers_config(config)
        self.first = layers.start == 0
        self.last = layers.stop == config.num_hidden_layers
        self.objective = objective
        self.recompute = recompute
        self.autocast = False
        """Multiply in bfloat16, where no FSDP has turned the weights into it."""
        self.model = _Model()
        self.tied = config.tie_word_embeddings
        if self.first or (self.last and self.tied):
            self.model.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.model.layers = nn.ModuleDict(
            {str(n): llama.LlamaDecoderLayer(shape, n) for n in layers}
        )
        self.rotary = llama.LlamaRotaryEmbedding(shape)
        if self.last:
            self.model.norm = llama.LlamaRMSNorm(config.hidden_size, config.rms_norm_eps)
            self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
            if self.tied:
                self.tie()

    @property
    def blocks(self) -> list[nn.Module]:
        """The layers."""
        return list(self.model.layers.values())

    @property
    def table(self) -> Tensor:
        """The embedding, which the first part has, and the last one where it is tied."""
        return self.model.embed_tokens.weight

    def tie(self) -> None:
        """Make the embedding the output matrix."""
        self.lm_head.weight = self.table

    def forward(self, given: Tensor, wanted: Wanted | None = None) -> Tensor:
        """From tokens or hidden states to hidden states or the loss.

        Args:
            given: tokens [B, T] for the first part, hidden states [B, T, W] for others.
            wanted: of the last part: what its objective compares with.

        Returns:
            Hidden states [B, T, W]; of the last part, its loss [1], so that a pipeline can lay
            those of its micro-batches end to end.
        """
        with torch.autocast(given.device.type, torch.bfloat16, enabled=self.autocast):
            hidden = self.hidden(given)
            if not self.last:
                return hidden
            return self.objective(self.model.norm(hidden), self._head(), wanted or {}).reshape(1)

    def _head(self) -> Tensor:
        """The output matrix whole: objectives compute with it in blocks of their own."""
        head = self.lm_head.weight
        return head.full_tensor() if isinstance(head, DTensor) else head

    def hidden(self, given: Tensor) -> Tensor:
        """What the layers make of it: hidden states [B, T, W], without the last norm."""
        hidden: Tensor = self.model.embed_tokens(given) if self.first else given
        positions = torch.arange(hidden.shape[1], device=hidden.device)[None]
        rotary = self.rotary(hidden, positions)
        for layer in self.blocks:
            if self.recompute and torch.is_grad_enabled():
                hidden = checkpoint(layer, hidden, position_embeddings=rotary, use_reentrant=False)
            else:
                hidden = layer(hidden, position_embeddings=rotary)
        return hidden


def share_of_layers(layers: int, parts: int, part: int) -> range:
    """The layers of a part of a pipeline; the first parts have one more, where it must be."""
    each, rest = divmod(layers, parts)
    start = part * each + min(part, rest)
    return range(start, start + each + (part < rest))


def transformers_config(config: LlamaConfig) -> TransformersConfig:
    """The same shape as transformers has it."""
    from transformers import LlamaConfig as TransformersConfig

    fields: dict[str, Any] = config.as_json()
    shape = TransformersConfig(**fields)
    # Causal by itself, without a mask [T, T] in memory.
    shape._attn_implementation = "sdpa"
    return shape
