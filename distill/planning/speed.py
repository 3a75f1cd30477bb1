"""How fast a board would run a model, by two laws.

Decode is bound by memory: for each token all weights and the whole KV cache are read once,

    tokens/s = bandwidth / (bytes of weights read + bytes of KV cache at that context)

Prefill is bound by arithmetic: each weight of the layers is multiplied and added once for
each token, 2 operations; the output matrix counts for the last token only. What attention
adds is left out: at the end of 2,048 tokens a sixth to a quarter of a 1B's operations, and
half of that on average.

Both are ceilings. Weights are also unpacked and multiplied while decode reads them: how much of
the bandwidth is left then differs by quantization, and is known of this machine, where it was
measured, and not of boards. And a model as small as 100 MB is bound by handing over between
threads before memory is: on a desktop SmolLM2-135M wrote half of what its bytes say.
"""

from __future__ import annotations

from dataclasses import dataclass

from distill.planning.boards import Board
from distill.planning.storage import bytes_per_token, kv_bytes_per_token
from edge.llama_config import LlamaConfig

__all__ = ["Speed", "predict"]


@dataclass(frozen=True, slots=True)
class Speed:
    """Tokens per second."""

    decode: float
    """Of an answer, once the context is as full as was asked for."""
    prefill: float | None
    """Of a prompt; None: nothing is known of the board."""
    prefill_measured: bool
    """Whether the board's rate was measured for this quantization; otherwise the least of those
    that were is taken."""


def predict(config: LlamaConfig, quantization: str, board: Board, context: int) -> Speed:
    """The speed of a model on a board.

    Args:
        config: the model.
        quantization: one of `distill.planning.storage.QUANTIZATIONS`.
        board: where it would run.
        context: tokens in the KV cache while it writes.
    """
    read = bytes_per_token(config, quantization) + context * kv_bytes_per_token(config)
    bandwidth = board.bandwidths.get(quantization, board.bandwidth_gb_per_s)
    gops = board.gops.get(quantization, min(board.gops.values(), default=None))
    operations = 2 * config.num_hidden_layers * config.layer_parameters
    return Speed(
        decode=bandwidth * 1e9 / read,
        prefill=None if gops is None else gops * 1e9 / operations,
        prefill_measured=quantization in board.gops,
    )
