"""Hidden states of many pieces of text, in a file: of a large model they are larger than memory.

Read and written by plain calls and not by a map of the file: a disk that is full is then an
error like any other and does not end the process.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from types import TracebackType
from typing import Self

import torch
from torch import Tensor

__all__ = ["States"]


class States:
    """A file of pieces [T, W], one behind the other.

    Args:
        path: the file.
        length: T, tokens of a piece.
        width: W.
        dtype: of the numbers, in memory and in the file.
        new: begin an empty file; else one that is there is read.
    """

    def __init__(
        self, path: Path, length: int, width: int, dtype: torch.dtype, *, new: bool = False
    ) -> None:
        self._shape = length, width
        self._dtype = dtype
        self._piece = length * width * dtype.itemsize
        self._file = path.open("w+b" if new else "rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:  # fmt: skip
        self._file.close()

    def read(self, start: int, stop: int) -> Tensor:
        """Pieces [stop − start, T, W], a tensor of its own.

        Raises:
            OSError: the file is shorter than that, or cannot be read.
        """
        size = (stop - start) * self._piece
        self._file.seek(start * self._piece)
        raw = bytearray(self._file.read(size))  # which torch may write to
        if len(raw) != size:
            raise OSError(errno.EIO, os.strerror(errno.EIO), self._file.name)
        return torch.frombuffer(raw, dtype=self._dtype).view(stop - start, *self._shape)

    def append(self, pieces: Tensor) -> None:
        """Write pieces [n, T, W] behind the others."""
        self._file.write(pieces.contiguous().view(torch.uint8).numpy().data)

    def flush(self) -> None:
        """Hand all to the system."""
        self._file.flush()
