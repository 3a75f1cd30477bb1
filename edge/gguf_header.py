"""Reading and checking a model file before native code sees it.

llama.cpp trusts its files: a wrong count, shape or number in one ends the process by an
assertion or a segmentation fault. `read_header` checks in Python everything on which its
loader, its tokenizer and its graphs rely, in bounded time and memory; only what it has
understood passes.

    gguf_window ──▶ gguf_reader ──▶ gguf_tokenizer, gguf_architecture ──▶ GGUFHeader
      bytes           syntax                     meaning
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edge.errors import ModelError
from edge.gguf_architecture import check_architecture
from edge.gguf_reader import RawFile, read_raw
from edge.gguf_tokenizer import HUGGING_FACE, check_tokenizer
from edge.gguf_types import FILE_TYPES, Array, GGUFHeader, Metadata, TensorInfo, ValueType
from edge.gguf_window import Window, printable

__all__ = ["GGUFHeader", "TensorInfo", "check_vocabulary", "read_header"]

_GENERAL = {
    "general.architecture": ValueType.STRING,
    "general.file_type": ValueType.UINT32,
    "general.name": ValueType.STRING,
    "split.count": ValueType.UINT16,
}
"""What llama.cpp reads of the part that is the same for all architectures."""


def read_header(path: Path) -> GGUFHeader:
    """Read and check the header of the GGUF file at `path`.

    Raises:
        ModelError: it cannot be read, is no GGUF file, or is of a kind that is not supported.
        DamagedModelError: it is cut off or contradicts itself.
    """
    with _opened(path) as raw:
        return _checked(raw)


def check_vocabulary(path: Path) -> None:
    """Check the tokenizer alone of a GGUF file, which may have no weights.

    Raises:
        ModelError: it cannot be read, is no GGUF file, or is of a kind that is not supported.
        DamagedModelError: it is cut off or contradicts itself.
    """
    with _opened(path) as raw:
        check_tokenizer(raw)


@contextmanager
def _opened(path: Path) -> Iterator[RawFile]:
    try:
        # Opening a named pipe would else wait for somebody to write into it.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ModelError("gguf.unreadable", path=printable(path), reason=reason) from error
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise ModelError("gguf.not-a-file", path=printable(path))
        yield read_raw(Window(path, fd, status.st_size))
    finally:
        os.close(fd)


def _checked(raw: RawFile) -> GGUFHeader:
    for key, kind in _GENERAL.items():
        if raw.kinds.get(key, kind) is not kind:
            raise raw.window.damaged("key-type", key=key, expected=kind.name)
    if "split.count" in raw.kinds and raw.values.get("split.count") != 1:
        parts = printable(raw.values.get("split.count"))
        raise raw.window.unsupported("split", parts=parts)
    for key in raw.kinds:
        if key.startswith("general.tensor_extra."):
            raise raw.window.unsupported("unknown-key", key=key)
    n_vocab = check_tokenizer(raw)
    architecture, hyper = check_architecture(raw, n_vocab)
    merges = raw.values.get("tokenizer.ggml.merges")
    tensors = tuple(raw.tensors.values())
    n_params = sum(tensor.n_elements for tensor in tensors)
    n_bytes = sum(tensor.n_bytes for tensor in tensors)
    return GGUFHeader(
        path=raw.window.path,
        file_size=raw.window.size,
        version=raw.version,
        architecture=architecture,
        name=printable(raw.values.get("general.name", "")),
        n_layer=hyper.n_layer,
        n_embd=hyper.n_embd,
        n_ff=hyper.n_ff,
        n_head=hyper.n_head,
        n_head_kv=hyper.n_head_kv,
        head_dim_k=hyper.head_dim,
        head_dim_v=hyper.head_dim,
        n_ctx_train=hyper.n_ctx_train,
        n_vocab=n_vocab,
        n_merges=merges.count if isinstance(merges, Array) else 0,
        has_tokenizer_json=HUGGING_FACE in raw.kinds,
        n_swa=hyper.n_swa,
        n_layer_swa=hyper.n_layer_swa,
        n_params=n_params,
        file_type=_file_type(raw, tensors),
        bits_per_weight=8 * n_bytes / n_params,
        template=raw.template,
        metadata=_metadata(raw),
        tensors=tensors,
    )


def _file_type(raw: RawFile, tensors: tuple[TensorInfo, ...]) -> str:
    """As the file says; else the type that most bytes of its tensors are of."""
    number = raw.values.get("general.file_type")
    if isinstance(number, int) and number in FILE_TYPES:
        return FILE_TYPES[number]
    n_bytes: Counter[str] = Counter()
    for tensor in tensors:
        n_bytes[tensor.type] += tensor.n_bytes
    return n_bytes.most_common(1)[0][0]


def _metadata(raw: RawFile) -> dict[str, Metadata]:
    metadata: dict[str, Metadata] = {}
    for key, value in raw.values.items():
        if not isinstance(value, Array):
            metadata[key] = value
        elif value.values is not None:
            metadata[key] = value.values
    return metadata
