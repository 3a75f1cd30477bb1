"""Queries, keys and values of a model's last layer, heard as it computes them.

They are those before the rotary embedding. No other attention is needed to hear them than the
one that computes without scores.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["PROJECTIONS", "LastAttention"]

PROJECTIONS = {"queries": "q_proj", "keys": "k_proj", "values": "v_proj"}
"""What is heard, and the module of a Llama layer's attention that says it."""


class LastAttention:
    """Hears them from `begin` to `end`: not where activations are computed again for gradients.

    Args:
        layer: the last of a model.
    """

    def __init__(self, layer: nn.Module) -> None:
        self._heard: dict[str, Tensor] | None = None
        for name, module in PROJECTIONS.items():
            projection = layer.get_submodule(f"self_attn.{module}")
            projection.register_forward_hook(partial(self._hear, name))

    def begin(self) -> None:
        """Listen from now on; what was heard before is forgotten."""
        self._heard = {}

    def end(self) -> dict[str, Tensor]:
        """Listen no more; what was heard, each [B, T, its width]."""
        heard, self._heard = self._heard, None
        return heard or {}

    def _hear(self, name: str, _module: nn.Module, _given: object, said: Tensor) -> None:
        if self._heard is not None:
            self._heard[name] = said
