"""The weights a training begins with: a folder's, or new ones."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from edge.errors import CheckpointError
from edge.llama_config import LlamaConfig
from pretrain.objective import CrossEntropy
from pretrain.part import Part

if TYPE_CHECKING:
    from edge.checkpoint import Checkpoint

__all__ = ["Source", "new", "of_folder"]

Source = Callable[[str, tuple[int, ...]], Tensor]
"""Called with the name of a tensor and its shape; gives it whole, in float32."""

_STD = 0.02
_INTO_STREAM = ("o_proj.weight", "down_proj.weight")


def new(config: LlamaConfig, seed: int) -> Source:
    """New weights, each from the seed and its own name: the same in any number of processes.

    Normal with σ = 0.02; of the two matrices of a layer that write into the residual stream,
    σ / √(2 · layers) (GPT-2); norms are 1.
    """
    narrow = _STD / math.sqrt(2 * config.num_hidden_layers)

    def source(name: str, shape: tuple[int, ...]) -> Tensor:
        if len(shape) == 1:
            return torch.ones(shape)
        digest = hashlib.sha256(f"{seed} {name}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
        std = narrow if name.endswith(_INTO_STREAM) else _STD
        return torch.empty(shape).normal_(0.0, std, generator=generator)

    return source


def of_folder(checkpoint: Checkpoint) -> Source:
    """The weights of a model folder.

    The source raises `CheckpointError` where a tensor is missing, has another shape, or holds
    NaN or infinity: in a row that no text reads, training would not meet them.

    Raises:
        CheckpointError: there are tensors that no such model has, as biases.
    """
    import numpy as np

    checkpoint.check_names(_names(checkpoint.config))

    def source(name: str, shape: tuple[int, ...]) -> Tensor:
        array = checkpoint.read(name)
        if array.shape != shape:
            raise checkpoint.misshapen(name, shape)
        whole = np.asarray(array, np.float32)
        if not np.isfinite(whole).all():
            raise CheckpointError("checkpoint.not-finite", path=str(checkpoint.path), tensor=name)
        return torch.from_numpy(whole)

    return source


def _names(config: LlamaConfig) -> set[str]:
    """What the parameters of a model of that shape are called."""
    with torch.device("meta"):
        whole = Part(config, range(config.num_hidden_layers), CrossEntropy())
    return {name for name, _ in whole.named_parameters()}
