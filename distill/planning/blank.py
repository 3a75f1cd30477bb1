"""A model file that says nothing: as large and as fast as a real one, and written in no time.

Its weights are random, a few rows again and again. Zeros would not do: llama.cpp is up to twice as
fast with them.
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import gguf
import numpy as np

from distill.planning.storage import tensors
from edge.gguf_types import TensorInfo
from edge.llama_config import LlamaConfig
from quantize.ggml.blocks import pack
from quantize.ggml.shape import add_shape

__all__ = ["write_blank"]

_ROWS = 64
"""Of a matrix that are its own."""
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
        add_shape(writer, config)
        writer.add_file_type(gguf.LlamaFileType[f"MOSTLY_{quantization}"])
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
        _add_vocabulary(writer, config.vocab_size)
        made = tensors(config, quantization)
        for tensor in made:
            writer.add_tensor_info(
                tensor.name, tensor.shape[::-1], np.dtype(np.float32), tensor.n_bytes,
                raw_dtype=gguf.GGMLQuantizationType[tensor.type],
            )  # fmt: skip
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
    finally:
        writer.close()
    with path.open("ab") as file:
        for tensor in made:
            _pad(file, writer.data_alignment)
            _append(file, tensor)
        _pad(file, writer.data_alignment)


def _append(file: BinaryIO, tensor: TensorInfo) -> None:
    """Weights as a new model has them; norms are 1."""
    if len(tensor.shape) == 1:
        file.write(np.ones(tensor.shape, np.float32).tobytes())
        return
    columns, rows = tensor.shape
    weights = np.random.default_rng(0).normal(0, 0.02, (min(rows, _ROWS), columns))
    packed = pack(weights.astype(np.float32), tensor.type).tobytes()
    times, rest = divmod(tensor.n_bytes, len(packed))
    file.writelines(packed for _ in range(times))
    file.write(packed[:rest])


def _pad(file: BinaryIO, alignment: int) -> None:
    file.write(bytes(-file.tell() % alignment))


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
