"""Writing safetensors files of which no more than a block is in memory.

The library writes tensors that are all in memory at once. The format asks for less: eight bytes
that say how long the header is, a header in JSON that says where each tensor stands, and the
numbers (https://huggingface.co/docs/safetensors). Where all shapes are known beforehand, so is
the header.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from edge.progress import Count, Progress

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["FLOAT_BYTES", "INDEX", "Streamed", "shard_name", "write_file", "write_weights"]

FLOAT_BYTES = {"F32": 4, "F16": 2, "BF16": 2}
"""Of a number, by the names that safetensors has for them."""
_SHARD = 5_000_000_000
"""Bytes of a file at most, as transformers cuts them, unless one tensor is larger."""
INDEX = "model.safetensors.index.json"


class Streamed(Protocol):
    """A tensor that comes in blocks."""

    @property
    def name(self) -> str:
        """Under which it is written."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its sizes."""

    @property
    def kind(self) -> str:
        """`F32`, `F16` or `BF16`."""

    def blocks(self) -> Iterator[NDArray[Any]]:
        """Its numbers in order."""


def write_weights(
    tensors: Sequence[Streamed], folder: Path, *, most: int = _SHARD,
    progress: Progress | None = None,
) -> None:  # fmt: skip
    """Write `model.safetensors` into a folder, or shards and their index.

    Args:
        tensors: in the order in which they are to stand.
        folder: it must be there; a file that is interrupted stays behind in it.
        most: bytes of a file.
        progress: called with bytes written.

    Raises:
        OSError: the disk is full, or does not take it.
    """
    shards = list(_shards(tensors, most))
    size = sum(map(_size, tensors))
    count = Count(size, progress)
    places: dict[str, str] = {}
    for number, shard in enumerate(shards, 1):
        name = shard_name(number, len(shards))
        write_file(folder / name, shard, count)
        places |= {tensor.name: name for tensor in shard}
    if len(shards) > 1:
        index = {"metadata": {"total_size": size}, "weight_map": places}
        (folder / INDEX).write_text(json.dumps(index, indent=1), encoding="utf-8")


def shard_name(number: int, of: int) -> str:
    """What file `number`, counted from 1, of so many is called."""
    return "model.safetensors" if of == 1 else f"model-{number:05}-of-{of:05}.safetensors"


def _size(tensor: Streamed) -> int:
    size = FLOAT_BYTES[tensor.kind]
    for n in tensor.shape:
        size *= n
    return size


def _shards(tensors: Iterable[Streamed], most: int) -> Iterator[list[Streamed]]:
    shard: list[Streamed] = []
    room = most
    for tensor in tensors:
        size = _size(tensor)
        if shard and size > room:
            yield shard
            shard, room = [], most
        shard.append(tensor)
        room -= size
    yield shard


def write_file(path: Path, tensors: Sequence[Streamed], count: Count | None = None) -> None:
    """Write one file, which must not be there; an interrupted one stays behind.

    Args:
        path: the file.
        tensors: in the order in which they are to stand.
        count: told of the bytes written.

    Raises:
        OSError: the disk is full, or does not take it.
    """
    with path.open("xb") as file:
        file.write(_header(tensors))
        for tensor in tensors:
            begin = file.tell()
            for block in tensor.blocks():
                file.write(block.tobytes())
                if count is not None:
                    count.add(block.nbytes)
            if file.tell() - begin != _size(tensor):
                raise ValueError(f"{tensor.name}: {file.tell() - begin} bytes")
        file.flush()
        os.fsync(file.fileno())


def _header(tensors: Sequence[Streamed]) -> bytes:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for tensor in tensors:
        end = at + _size(tensor)
        header[tensor.name] = {
            "dtype": tensor.kind, "shape": tensor.shape, "data_offsets": [at, end]
        }  # fmt: skip
        at = end
    raw = json.dumps(header, separators=(",", ":")).encode()
    raw += b" " * (-len(raw) % 8)  # numbers begin where a map of the file finds them aligned
    return len(raw).to_bytes(8, "little") + raw
