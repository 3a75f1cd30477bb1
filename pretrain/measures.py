"""What a training costs: FLOPs, how well the device is used, memory."""

from __future__ import annotations

import resource
import time

import torch

from edge.llama_config import LlamaConfig

__all__ = ["flops_per_token", "memory", "peak_flops"]

_PEAKS = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "L40": 181e12, "V100": 125e12}
"""Dense bfloat16 (V100: float16) FLOP/s of NVIDIA's data sheets, by a part of the name."""

_MEASURED_S = 0.5
"""Long enough that others, who take turns on the cores, do not meet every product."""


def flops_per_token(config: LlamaConfig, length: int) -> float:
    """Of training on one token: 6 N + 12 · layers · width of all heads · T.

    The formula of PaLM (2204.02311, appendix B). N counts the weights that are multiplied
    with: all but the norms and an embedding that is only looked up.
    """
    table = config.vocab_size * config.hidden_size
    looked_up = 0 if config.tie_word_embeddings else table
    norms = (2 * config.num_hidden_layers + 1) * config.hidden_size
    weights = config.parameters - looked_up - norms
    attended = config.num_hidden_layers * config.num_attention_heads * config.head_dim
    return 6.0 * weights + 12.0 * attended * length


def peak_flops(device: torch.device) -> float | None:
    """FLOP/s that the device can reach; of a CPU what it multiplies matrices with, measured.

    None: of a GPU that is not known.
    """
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        return next((peak for part, peak in _PEAKS.items() if part in name), None)
    n = 1024
    a, b = torch.ones(n, n), torch.ones(n, n)
    best = float("inf")
    until = time.perf_counter() + _MEASURED_S
    while (began := time.perf_counter()) < until:
        a @ b
        best = min(best, time.perf_counter() - began)
    return 2 * n**3 / best


def memory(device: torch.device) -> int:
    """Most bytes that this process has held so far, on the device that it computes on."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
