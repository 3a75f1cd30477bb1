"""A Llama model whose rows have no multiple of 256 numbers, made wider by zeros.

python -m tests.benchmarks.widen FOLDER OUT

llama.cpp's K-quants hold 256 numbers in a block; in narrower rows, such as SmolLM2's of 576, other
types of more bits stand in for them, so a file that is called Q4_K_M is none. Zeros are added to
the hidden width, as whole groups of heads, until blocks fit. The model computes what it did: what
is added stays zero, and the norms, whose mean is taken over more numbers, are scaled for it.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from edge.checkpoint import Checkpoint
from edge.llama_config import LlamaConfig
from quantize.checkpoint.llama_tensors import tensors

__all__ = ["widen"]

_BLOCK = 256
_COPIED = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


def widen(source: Path, out: Path) -> None:
    """Write the wider model, in float32, into a new folder."""
    checkpoint = Checkpoint.open(source)
    narrow = checkpoint.config
    wide = _wide(narrow)
    gain = math.sqrt(wide.hidden_size / narrow.hidden_size)
    made = {}
    for tensor in tensors(wide):
        given = checkpoint.read(tensor.hf).astype(np.float32)
        full = np.zeros(tensor.shape, np.float32)
        full[tuple(slice(size) for size in given.shape)] = given
        made[tensor.hf] = full / gain if full.ndim == 1 else full
    out.mkdir(parents=True)
    save_file(made, out / "model.safetensors", metadata={"format": "pt"})
    config = json.dumps({**wide.as_json(), "dtype": "float32"}, indent=1)
    (out / "config.json").write_text(config, encoding="utf-8")
    for name in _COPIED:
        if (source / name).exists():
            (out / name).write_bytes((source / name).read_bytes())


def _wide(narrow: LlamaConfig) -> LlamaConfig:
    """The shape; the width is that of all heads together, as transformers wants it."""
    group = narrow.num_attention_heads // narrow.num_key_value_heads * narrow.head_dim
    unit = math.lcm(_BLOCK, group)
    width = -(-narrow.hidden_size // unit) * unit
    return narrow.model_copy(
        update={
            "hidden_size": width,
            "num_attention_heads": width // narrow.head_dim,
            "num_key_value_heads": width // group,
            # The sum of squares is the same, over more numbers.
            "rms_norm_eps": narrow.rms_norm_eps * narrow.hidden_size / width,
        }
    )


if __name__ == "__main__":
    widen(Path(sys.argv[1]), Path(sys.argv[2]))
