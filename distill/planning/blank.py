"""A model file of zeros: as large and as fast as a real one, and written in no time.

What is computed with does not change how long it takes. The file has holes where its weights
would be, which a disk does not store; in memory they are as large as any.
"""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np

from distill.planning.storage import tensors
from edge.llama_config import LlamaConfig

__all__ = ["write_blank"]

_SPECIAL = ("<unk>", "<s>", "</s>")
_BYTES = tuple(f"<0x{n:02X}>" for n in range(256))


def write_blank(path: Path, config: LlamaConfig, quantization: str) -> None:
    """Write a GGUF file.

    Args:
        path: the file.
        config: its shape, with a vocabulary of at least 259.
        quantization: one of `distill.planning.storage.QUANTIZATIONS`.

    Raises:
        OSError: it cannot be written.
    """
    writer = gguf.GGUFWriter(path, "llama")
    try:
        writer.add_block_count(config.num_hidden_layers)
        writer.add_context_length(config.max_position_embeddings)
        writer.add_embedding_length(config.hidden_size)
        writer.add_feed_forward_length(config.intermediate_size)
        writer.add_head_count(config.num_attention_heads)
        writer.add_head_count_kv(config.num_key_value_heads)
        writer.add_rope_dimension_count(config.head_dim)
        writer.add_layer_norm_rms_eps(config.rms_norm_eps)
        writer.add_file_type(gguf.LlamaFileType[f"MOSTLY_{quantization}"])
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
        _add_vocabulary(writer, config.vocab_size)
        size = 0
        for tensor in tensors(config, quantization):
            writer.add_tensor_info(
                tensor.name, tensor.shape[::-1], np.dtype(np.float32), tensor.n_bytes,
                raw_dtype=gguf.GGMLQuantizationType[tensor.type],
            )  # fmt: skip
            size += gguf.GGUFWriter.ggml_pad(tensor.n_bytes, writer.data_alignment)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
    finally:
        writer.close()
    written = path.stat().st_size
    with path.open("r+b") as file:
        file.truncate(gguf.GGUFWriter.ggml_pad(written, writer.data_alignment) + size)


def _add_vocabulary(writer: gguf.GGUFWriter, size: int) -> None:
    """Of bytes, and of words that no text has."""
    known = [*_SPECIAL, *_BYTES]
    kinds = [gguf.TokenType.UNKNOWN, *[gguf.TokenType.CONTROL] * 2, *[gguf.TokenType.BYTE] * 256]
    others = [f"▁{n}" for n in range(size - len(known))]
    writer.add_tokenizer_model("llama")
    writer.add_token_list([*known, *others])
    writer.add_token_scores([0.0] * size)
    writer.add_token_types([*kinds, *[gguf.TokenType.NORMAL] * len(others)])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
