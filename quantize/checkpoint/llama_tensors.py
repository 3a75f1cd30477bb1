"""The tensors of a Llama model: Hugging Face's names, GGUF's names, and how one becomes the other.

The two differ in more than names. llama.cpp rotates neighbouring pairs of a head's
dimensions, as the first Llama did; transformers rotates dimension i with i + d/2. So the
rows of the query and key projections stand in another order:

    Hugging Face    a₀ a₁ a₂ … b₀ b₁ b₂ …         of each head
    GGUF            a₀ b₀ a₁ b₁ a₂ b₂ …
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edge.llama_config import LlamaConfig

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "ROPE_FREQS",
    "LlamaTensor",
    "interleave",
    "rope_factors",
    "separate",
    "tensors",
]

ROPE_FREQS = "rope_freqs.weight"
"""In a GGUF file: what `rope_factors` computes, for models whose positions are stretched."""


@dataclass(frozen=True, slots=True)
class LlamaTensor:
    """One tensor that a model of a given shape has."""

    hf: str
    gguf: str
    shape: tuple[int, ...]
    """As torch and numpy have it: [out, in]; GGUF lists it the other way round."""
    heads: int | None = None
    """Of a query or key projection: of how many heads the rows are."""


def tensors(config: LlamaConfig) -> Iterator[LlamaTensor]:
    """All tensors of a model of that shape, in the order in which they are used."""
    width, vocab = config.hidden_size, config.vocab_size
    yield LlamaTensor("model.embed_tokens.weight", "token_embd.weight", (vocab, width))
    for n in range(config.num_hidden_layers):
        yield from _layer(config, f"model.layers.{n}", f"blk.{n}")
    yield LlamaTensor("model.norm.weight", "output_norm.weight", (width,))
    if not config.tie_word_embeddings:
        yield LlamaTensor("lm_head.weight", "output.weight", (vocab, width))


def _layer(config: LlamaConfig, hf: str, gguf: str) -> Iterator[LlamaTensor]:
    width, inner = config.hidden_size, config.intermediate_size
    heads, kv_heads = config.num_attention_heads, config.num_key_value_heads
    q, kv = heads * config.head_dim, kv_heads * config.head_dim
    attention, mlp = f"{hf}.self_attn", f"{hf}.mlp"
    yield LlamaTensor(f"{hf}.input_layernorm.weight", f"{gguf}.attn_norm.weight", (width,))
    yield LlamaTensor(f"{attention}.q_proj.weight", f"{gguf}.attn_q.weight", (q, width), heads)
    yield LlamaTensor(f"{attention}.k_proj.weight", f"{gguf}.attn_k.weight", (kv, width), kv_heads)
    yield LlamaTensor(f"{attention}.v_proj.weight", f"{gguf}.attn_v.weight", (kv, width))
    yield LlamaTensor(f"{attention}.o_proj.weight", f"{gguf}.attn_output.weight", (width, q))
    yield LlamaTensor(f"{hf}.post_attention_layernorm.weight", f"{gguf}.ffn_norm.weight", (width,))
    yield LlamaTensor(f"{mlp}.gate_proj.weight", f"{gguf}.ffn_gate.weight", (inner, width))
    yield LlamaTensor(f"{mlp}.up_proj.weight", f"{gguf}.ffn_up.weight", (inner, width))
    yield LlamaTensor(f"{mlp}.down_proj.weight", f"{gguf}.ffn_down.weight", (width, inner))


def interleave(weight: NDArray[Any], heads: int) -> NDArray[Any]:
    """Rows [heads · d, in] from Hugging Face's order to GGUF's."""
    rows, columns = weight.shape
    halves = weight.reshape(heads, 2, rows // heads // 2, columns)
    return halves.swapaxes(1, 2).reshape(rows, columns)


def separate(weight: NDArray[Any], heads: int) -> NDArray[Any]:
    """Rows [heads · d, in] from GGUF's order to Hugging Face's."""
    rows, columns = weight.shape
    pairs = weight.reshape(heads, rows // heads // 2, 2, columns)
    return pairs.swapaxes(1, 2).reshape(rows, columns)


def rope_factors(config: LlamaConfig) -> NDArray[np.float32] | None:
    """By what each rotary frequency [d / 2] is divided; None where all stay as they are.

    Llama 3.1's rule (transformers, `_compute_llama3_parameters`): short wavelengths stay, long
    ones are stretched by `factor`, those between by something between.
    """
    rope = config.rope
    if rope.rope_type != "llama3":
        return None
    import numpy as np

    # In float32, as both transformers and llama.cpp's converter compute them.
    steps = np.arange(0, config.head_dim, 2, dtype=np.float32) / np.float32(config.head_dim)
    frequencies = np.float32(1) / np.power(np.float32(config.rope_theta), steps)
    window = rope.original_max_position_embeddings
    low, high = rope.low_freq_factor, rope.high_freq_factor
    factors = []
    for frequency in frequencies.tolist():
        wavelength = 2 * math.pi / frequency
        if wavelength < window / high:
            factors.append(1.0)
        elif wavelength > window / low:
            factors.append(rope.factor)
        else:
            smooth = (window / wavelength - low) / (high - low)
            factors.append(1 / ((1 - smooth) / rope.factor + smooth))
    return np.array(factors, dtype=np.float32)
