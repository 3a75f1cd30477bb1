"""Other numbers in a quantized file: blocks that were trained, in place of those computed.

Type, size and place of every tensor stay: the file is read as fast as before.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edge.llama_config import LlamaConfig
from quantize.checkpoint.llama_tensors import LlamaTensor, interleave, tensors
from quantize.ggml.tensors import GGUFTensors
from quantize.grid import BLOCK
from quantize.healing.result import Healed

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["pack_q4_0", "pack_q8_0", "rewrite"]


def rewrite(path: Path, config: LlamaConfig, healed: Healed) -> None:
    """Write the matrices and norms of the layers, and the last norm, into a GGUF file.

    Args:
        path: a file of that type, which is ours to write into.
        config: the model's shape.
        healed: what is written.

    Raises:
        QuantizeError: `healed` is damaged.
    """
    places = GGUFTensors.open(path).tensors
    with path.open("r+b") as file:
        for tensor in tensors(config):
            if tensor.hf not in healed:
                continue
            place = places[tensor.gguf]
            content, kind = _content(tensor, healed)
            if place.type != kind or place.n_bytes != content.nbytes:
                raise AssertionError(f"{tensor.gguf}: {place} for {kind}, {content.nbytes} bytes")
            file.seek(place.offset)
            file.write(content.data)
        file.flush()
        os.fsync(file.fileno())


def _content(tensor: LlamaTensor, healed: Healed) -> tuple[NDArray[Any], str]:
    """The bytes of a tensor as they stand in a file, and their type."""
    if len(tensor.shape) == 1:
        return healed.norm(tensor.hf, tensor.shape), "F32"
    rounded = healed.matrix(tensor.hf, tensor.shape)
    levels, scales = rounded.levels, rounded.scales
    if tensor.heads is not None:
        levels, scales = interleave(levels, tensor.heads), interleave(scales, tensor.heads)
    return _PACK[healed.bits](levels, scales), f"Q{healed.bits}_0"


def pack_q4_0(levels: NDArray[np.int8], scales: NDArray[np.float16]) -> NDArray[np.uint8]:
    """Q4_0 (ggml-common.h, `block_q4_0`): [out, in / 32, 18] bytes.

    A half, then sixteen bytes with the levels of two numbers each, 8 meaning zero: those of
    the block's first half below, those of its second half above.
    """
    shifted = (levels + np.int8(8)).astype(np.uint8).reshape(*scales.shape, 2, BLOCK // 2)
    return _joined(scales, shifted[..., 0, :] | (shifted[..., 1, :] << np.uint8(4)))


def pack_q8_0(levels: NDArray[np.int8], scales: NDArray[np.float16]) -> NDArray[np.uint8]:
    """Q8_0 (ggml-common.h, `block_q8_0`): a half and 32 signed bytes; [out, in / 32, 34]."""
    return _joined(scales, levels.view(np.uint8).reshape(*scales.shape, BLOCK))


def _joined(scales: NDArray[np.float16], levels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    halves = np.ascontiguousarray(scales).astype("<f2").view(np.uint8).reshape(*scales.shape, 2)
    return np.concatenate([halves, levels], axis=-1)


_PACK = {4: pack_q4_0, 8: pack_q8_0}
