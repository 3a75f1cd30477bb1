"""What is measured of one layer while it computes, forward only.

    a [B, T, C]     activations of B pieces of text, T tokens each, C channels

The score of a channel is Minitron's (arXiv 2407.14679, section 2.2, with the aggregation that
its table 8 and 2408.11796 settle on: mean over the sequence, L2 over the batch):

    score(c) = sqrt( Σ_b ( 1/T · Σ_t |a[b, t, c]| )² )

taken of

    width   what comes out of each RMSNorm, its weight applied     [2 a layer, and the last; W]
    ffn     what goes into down_proj: silu(gate) · up              [L, F]
    heads   what goes into o_proj; the score of a head is the L2   [L, Q]
            norm of the scores of its channels, as NVIDIA's Model Optimizer has it

A layer's block influence is ShortGPT's (arXiv 2403.03853): 1 − the mean over tokens of the
cosine between the residual stream before the layer and after it. Over several layers, how far
it turns is the angular distance (arXiv 2403.17887, section 4.1), the mean over tokens of

    d(l, m) = arccos( cosine of the streams in front of layers l and m ) / π
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

if TYPE_CHECKING:
    from torch import nn
    from transformers.models.llama.modeling_llama import LlamaDecoderLayer

__all__ = ["LayerSums", "NormSums", "angular_distances", "head_scores"]


class NormSums:
    """Of one RMSNorm: the scores of what it gives, and the energy of what it is given."""

    def __init__(self) -> None:
        self._scores: Tensor = torch.zeros(())
        self._squares: Tensor = torch.zeros(())
        self._tokens = 0

    def add(self, given: Tensor, made: Tensor) -> None:
        """Count one batch [B, T, W] in front of the norm and behind it."""
        self._scores = self._scores + _squared_means(made)
        self._squares = self._squares + given.float().pow(2).sum((0, 1), dtype=torch.float64)
        self._tokens += given.shape[0] * given.shape[1]

    def scores(self) -> Tensor:
        """Of each channel [W], float64."""
        return self._scores.sqrt()

    def mean_squares(self) -> Tensor:
        """Mean over tokens of the square of each channel of the residual stream [W], float64."""
        return self._squares / self._tokens


class LayerSums:
    """All that is measured of a layer."""

    def __init__(self) -> None:
        self._norms = NormSums(), NormSums()
        self._ffn: Tensor = torch.zeros(())
        self._attention: Tensor = torch.zeros(())
        self._cosines = 0.0
        self._tokens = 0

    @contextmanager
    def watching(self, layer: LlamaDecoderLayer) -> Iterator[None]:
        """Count all that the layer computes meanwhile."""
        first, second = self._norms

        def ffn(_: nn.Module, given: tuple[Tensor]) -> None:
            self._ffn = self._ffn + _squared_means(given[0])

        def attention(_: nn.Module, given: tuple[Tensor]) -> None:
            self._attention = self._attention + _squared_means(given[0])

        def influence(_: nn.Module, given: tuple[Tensor], made: Tensor) -> None:
            cosines = cosine_similarity(given[0].float(), made.float(), dim=-1)
            self._cosines += cosines.sum(dtype=torch.float64).item()
            self._tokens += cosines.numel()

        handles = [
            layer.input_layernorm.register_forward_hook(_norm_hook(first)),
            layer.post_attention_layernorm.register_forward_hook(_norm_hook(second)),
            layer.mlp.down_proj.register_forward_pre_hook(ffn),
            layer.self_attn.o_proj.register_forward_pre_hook(attention),
            layer.register_forward_hook(influence),
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def result(self, heads: int) -> Mapping[str, Tensor]:
        """The figures by their names, float64.

        Args:
            heads: query heads of the layer.
        """
        return {
            "width.score": torch.stack([norm.scores() for norm in self._norms]),
            "width.mean_square": torch.stack([norm.mean_squares() for norm in self._norms]),
            "ffn.score": self._ffn.sqrt(),
            "heads.score": head_scores(self._attention.sqrt(), heads),
            "layers.influence": torch.tensor(1 - self._cosines / self._tokens, dtype=torch.float64),
        }


def angular_distances(states: Tensor) -> Tensor:
    """From hidden states [L + 1, S, W] of S tokens to their distances [L + 1, L + 1], float64."""
    places = len(states)
    found = torch.zeros(places, places, dtype=torch.float64)
    for n in range(places):
        cosines = cosine_similarity(states[n : n + 1], states[n + 1 :], dim=-1)
        angles = cosines.double().clamp(-1, 1).arccos().mean(1) / math.pi
        found[n, n + 1 :] = found[n + 1 :, n] = angles
    return found


def _norm_hook(sums: NormSums) -> Callable[[nn.Module, tuple[Tensor], Tensor], None]:
    def hook(_: nn.Module, given: tuple[Tensor], made: Tensor) -> None:
        sums.add(given[0], made)

    return hook


def head_scores(channels: Tensor, heads: int) -> Tensor:
    """L2 norm of the scores of each head's channels: from [heads · d] to [heads]."""
    return channels.view(heads, -1).pow(2).sum(-1).sqrt()


def _squared_means(activations: Tensor) -> Tensor:
    """Σ over B of (mean over T of |a|)²: from [B, T, C] to [C], float64."""
    return activations.float().abs().mean(1, dtype=torch.float64).pow(2).sum(0)
