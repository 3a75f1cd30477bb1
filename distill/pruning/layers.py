"""A Llama model of which one layer at a time is in memory.

What computes is transformers' own layer; its weights come from the checkpoint when it is its
turn, in the type that is computed with, and go when the next one comes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from edge.checkpoint import Checkpoint
from edge.errors import CheckpointError
from quantize.checkpoint.llama_tensors import tensors

if TYPE_CHECKING:
    from transformers.models.llama.modeling_llama import LlamaDecoderLayer, LlamaRMSNorm

__all__ = ["DTYPES", "Layers", "losses"]

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
_LOGITS = 256
"""Tokens whose logits are in memory together: 66 MB with a vocabulary of 65,024."""


class Layers:
    """The parts of a model, read when they are asked for.

    Args:
        checkpoint: complete.
        length: tokens of all pieces.
        dtype: what is computed with.
    """

    def __init__(self, checkpoint: Checkpoint, length: int, dtype: torch.dtype) -> None:
        from transformers import LlamaConfig
        from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

        self._checkpoint = checkpoint
        self._dtype = dtype
        self._config = LlamaConfig.from_dict(checkpoint.config.as_json())
        # Without a mask, transformers' scaled dot product is causal.
        self._config._attn_implementation = "sdpa"
        rotary = LlamaRotaryEmbedding(self._config)
        self._rotary = rotary(torch.empty(1, dtype=dtype), torch.arange(length)[None])

    def embedding(self) -> Callable[[Tensor], Tensor]:
        """What gives hidden states [B, T, W] of tokens [B, T] in front of the first layer."""
        table = self._read("model.embed_tokens.weight")
        return lambda ids: nn.functional.embedding(ids, table).to(self._dtype)

    def layer(self, n: int) -> LlamaDecoderLayer:
        """Layer `n` with its weights."""
        from transformers.models.llama.modeling_llama import LlamaDecoderLayer

        with torch.device("meta"):
            layer = LlamaDecoderLayer(self._config, n)
        prefix = f"model.layers.{n}."
        weights = {
            tensor.hf.removeprefix(prefix): self._read(tensor.hf).to(self._dtype)
            for tensor in tensors(self._checkpoint.config)
            if tensor.hf.startswith(prefix)
        }
        layer.load_state_dict(weights, assign=True)
        return layer.eval()

    def through(self, layer: nn.Module, hidden: Tensor) -> Tensor:
        """Hidden states [B, T, W] behind a layer."""
        made: Tensor = layer(hidden, position_embeddings=self._rotary)
        return made

    def norm(self) -> LlamaRMSNorm:
        """The last norm."""
        from transformers.models.llama.modeling_llama import LlamaRMSNorm

        norm = LlamaRMSNorm(self._config.hidden_size, eps=self._config.rms_norm_eps)
        norm.load_state_dict({"weight": self._read("model.norm.weight").to(self._dtype)})
        return norm.to(self._dtype)

    def head(self) -> Tensor:
        """The output matrix [V, W]."""
        tied = self._checkpoint.config.tie_word_embeddings
        name = "model.embed_tokens.weight" if tied else "lm_head.weight"
        return self._read(name).to(self._dtype)

    def _read(self, name: str) -> Tensor:
        raw = self._checkpoint.read(name)
        if raw.dtype.name == "bfloat16":  # of which torch's bridge to numpy knows nothing
            tensor = torch.from_numpy(raw.view(np.uint16)).view(torch.bfloat16)
        else:
            tensor = torch.from_numpy(raw)
        if not all(torch.isfinite(end) for end in torch.aminmax(tensor)):
            path = str(self._checkpoint.path)
            raise CheckpointError("checkpoint.not-finite", path=path, tensor=name)
        return tensor


def losses(normed: Tensor, head: Tensor, ids: Tensor) -> Tensor:
    """Mean cross-entropy in nats of each piece [B], float64; each token foretells the next.

    Args:
        normed: hidden states [B, T, W] behind the last norm.
        head: output matrix [V, W].
        ids: the tokens [B, T].
    """
    rows = normed[:, :-1].flatten(0, 1)
    wanted = ids[:, 1:].flatten()
    found = [
        nn.functional.cross_entropy(
            linear(rows[at : at + _LOGITS], head).float(), wanted[at : at + _LOGITS],
            reduction="none",
        )
        for at in range(0, len(rows), _LOGITS)
    ]  # fmt: skip
    return torch.cat(found).view(len(ids), -1).mean(1, dtype=torch.float64)
