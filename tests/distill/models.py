"""Published models by their config.json, to hold predictions against what was measured of them."""

from __future__ import annotations

from distill.planning.teacher import read_teacher
from edge.llama_config import LlamaConfig

LUCIE = read_teacher("lucie-7b")[1]


def model(
    layers: int,
    width: int,
    ffn: int,
    heads: str,
    head_size: int,
    vocabulary: int,
    *,
    tied: bool,
) -> LlamaConfig:
    """A Llama model; `heads` is query heads/key-value heads."""
    queries, groups = map(int, heads.split("/"))
    return LlamaConfig.model_validate(
        {
            "architectures": ["LlamaForCausalLM"],
            "hidden_size": width,
            "intermediate_size": ffn,
            "num_hidden_layers": layers,
            "num_attention_heads": queries,
            "num_key_value_heads": groups,
            "head_dim": head_size,
            "vocab_size": vocabulary,
            "max_position_embeddings": 8192,
            "rms_norm_eps": 1e-5,
            "tie_word_embeddings": tied,
        }
    )


# Qwen2.5 has biases in attention, too: 0.01 % of its weights. The official GGUF of the 0.5B
# holds its one table twice.
QWEN_05B = model(24, 896, 4864, "14/2", 64, 151_936, tied=False)
QWEN_15B = model(28, 1536, 8960, "12/2", 128, 151_936, tied=True)
TINY_LLAMA = model(22, 2048, 5632, "32/4", 64, 32_000, tied=False)
LLAMA_1B = model(16, 2048, 8192, "32/8", 64, 128_256, tied=True)
LLAMA_3B = model(28, 3072, 8192, "24/8", 128, 128_256, tied=True)
SMOLLM_135M = model(30, 576, 1536, "9/3", 64, 49_152, tied=True)
