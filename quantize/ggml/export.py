"""From a Hugging Face folder to a GGUF file of floats, a tensor at a time.

What llama.cpp's convert_hf_to_gguf.py does for Llama models, on the same library for the
format and with the same result, without torch. Of a model that was published as GGUF, fields
and numbers come back as they were.
"""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gguf
import numpy as np

from edge.checkpoint import Checkpoint
from edge.errors import StoreError
from edge.manifest import Manifest
from edge.progress import Count, Progress
from edge.weights_file import FLOAT_BYTES
from edge.workshop import check_room
from quantize.checkpoint.complete import complete, numbers
from quantize.checkpoint.llama_tensors import ROPE_FREQS, LlamaTensor, interleave, rope_factors
from quantize.ggml.general import add_general
from quantize.ggml.shape import add_shape
from quantize.ggml.vocab import read_vocab

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["export", "export_vocabulary", "widest"]

_ARCHITECTURE = "llama"
_FILE_TYPES = {
    "F32": gguf.LlamaFileType.ALL_F32,
    "F16": gguf.LlamaFileType.MOSTLY_F16,
    "BF16": gguf.LlamaFileType.MOSTLY_BF16,
}
_QUANTS = {kind: gguf.GGMLQuantizationType[kind] for kind in FLOAT_BYTES}


def widest(checkpoint: Checkpoint) -> str:
    """The narrowest of `F16`, `BF16` and `F32` that loses nothing of a checkpoint."""
    # Norms are written as F32 whatever the rest is.
    kinds = {place.dtype for place in checkpoint.tensors.values() if len(place.shape) > 1}
    return kinds.pop() if len(kinds) == 1 else "F32"


def export(
    checkpoint: Checkpoint,
    target: Path,
    kind: str,
    *,
    known: Manifest | None = None,
    progress: Progress | None = None,
) -> None:
    """Write `target`, all or nothing.

    Args:
        checkpoint: the model.
        target: the file, which must not be there yet.
        kind: `F32`, `F16` or `BF16`; norms are always F32.
        known: what the bundle says that the model is from.
        progress: called with bytes written.

    Raises:
        CheckpointError: tensors are missing, too many, of wrong shape or not finite; the
            tokenizer has no equal in llama.cpp; the README is damaged.
        StoreError: `target` is there already.
        OSError: the disk has no room for it.
    """
    if target.exists():
        raise StoreError("bundle.exists", path=str(target))
    wanted = complete(checkpoint)
    draft = target.with_name(f".{target.name}.part")
    writer = gguf.GGUFWriter(draft, _ARCHITECTURE)
    try:
        _add_tensors(writer, checkpoint, wanted, kind)
        infos = [info for part in writer.tensors for info in part.values()]
        check_room(target.parent, sum(info.nbytes for info in infos))
        _describe(writer, checkpoint, known)
        writer.add_file_type(_FILE_TYPES[kind])
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
        _write(writer, checkpoint, wanted, kind, progress, target.parent)
        writer.close()
        draft.rename(target)
    except BaseException:
        writer.close()
        draft.unlink(missing_ok=True)
        raise


def export_vocabulary(checkpoint: Checkpoint, target: Path) -> None:
    """Write the tokenizer alone: what `export` would write, without the weights.

    Raises:
        CheckpointError: the tokenizer has no equal in llama.cpp.
    """
    writer = gguf.GGUFWriter(target, _ARCHITECTURE)
    try:
        _describe(writer, checkpoint, None)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
    finally:
        writer.close()


def _add_tensors(
    writer: gguf.GGUFWriter, checkpoint: Checkpoint, wanted: list[LlamaTensor], kind: str
) -> None:
    factors = rope_factors(checkpoint.config)
    if factors is not None:
        writer.add_tensor_info(ROPE_FREQS, factors.shape, factors.dtype, factors.nbytes)
    for tensor in wanted:
        stored = _kind(tensor, kind)
        size = checkpoint.tensors[tensor.hf].n_elements * FLOAT_BYTES[stored]
        writer.add_tensor_info(
            tensor.gguf, tensor.shape, np.dtype(np.float32), size, raw_dtype=_QUANTS[stored]
        )


def _describe(writer: gguf.GGUFWriter, checkpoint: Checkpoint, known: Manifest | None) -> None:
    """Everything in front of the weights."""
    add_general(writer, checkpoint, known)
    add_shape(writer, checkpoint.config)
    read_vocab(checkpoint).write(writer)
    n_vocab = checkpoint.config.vocab_size
    special = gguf.SpecialVocab(checkpoint.path, load_merges=True, n_vocab=n_vocab)
    special.add_special_token.setdefault("bos", False)  # where llama.cpp would guess
    special.add_to_gguf(writer, quiet=True)


def _kind(tensor: LlamaTensor, kind: str) -> str:
    """In what a tensor is stored: llama.cpp computes with norms in float32 only."""
    return "F32" if len(tensor.shape) == 1 else kind


def _write(
    writer: gguf.GGUFWriter,
    checkpoint: Checkpoint,
    wanted: list[LlamaTensor],
    kind: str,
    progress: Progress | None,
    folder: Path,
) -> None:
    size = sum(checkpoint.tensors[tensor.hf].n_bytes for tensor in wanted)
    count = Count(size, progress)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    factors = rope_factors(checkpoint.config)
    if factors is not None:
        writer.write_tensor_data(factors)
    for tensor in wanted:
        _append(writer, _arranged(checkpoint, tensor, _kind(tensor, kind)), folder)
        count.add(checkpoint.tensors[tensor.hf].n_bytes)
    writer.flush()


def _append(writer: gguf.GGUFWriter, tensor: NDArray[Any], folder: Path) -> None:
    """Write a tensor; numpy does not tell why it wrote less of it than it should."""
    try:
        writer.write_tensor_data(tensor)
    except OSError as error:
        if error.errno is None and shutil.disk_usage(folder).free < tensor.nbytes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
        raise


def _arranged(checkpoint: Checkpoint, tensor: LlamaTensor, kind: str) -> NDArray[Any]:
    """A tensor as GGUF has it, as bytes."""
    heads = tensor.heads
    arrange = None if heads is None else lambda rows: interleave(rows, heads)
    return numbers(checkpoint, tensor.hf, kind, arrange).reshape(-1).view(np.uint8)
