"""A model of which one matrix after the other is exchanged for a while.

llama.cpp maps the tensors of a file of floats instead of copying them, so what is written
into the file is what it computes with next. That spares loading the model for each matrix.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quantize.checkpoint.floats import NotFiniteError, convert
from quantize.errors import QuantizeError
from quantize.ggml.tensors import GGUFTensors
from quantize.measuring.reading import Reader

if TYPE_CHECKING:
    from array import array

    import numpy as np
    from numpy.typing import NDArray

__all__ = ["PatchedModel"]


class PatchedModel:
    """A file of floats that is ours to write into, and its reader.

    Args:
        path: a GGUF file of floats (F32, F16, BF16); it is as before after each `patched`.
        chunk: tokens that are read together.
        threads: threads to compute with; 0: one for each core.
    """

    def __init__(self, path: Path, chunk: int, threads: int) -> None:
        self.tensors = GGUFTensors.open(path)
        self._file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            # Rearranged weights would be copies.
            self.reader = Reader(path, chunk, threads, rearrange=False)
        except BaseException:
            os.close(self._file)
            raise

    @contextmanager
    def patched(self, name: str, weights: NDArray[np.float32]) -> Iterator[Reader]:
        """The model with other numbers in the tensor of that name."""
        info = self.tensors.tensors[name]
        before = self.tensors.read_bytes(name)
        try:
            at = info.offset
            for part in convert(weights, info.type):
                at = self._write(part, at)
            yield self.reader
        except NotFiniteError as error:  # out of the range of halves
            raise QuantizeError("search.not-finite", tensor=name) from error
        finally:
            self._write(before, info.offset)

    def _write(self, data: NDArray[Any], at: int) -> int:
        """All bytes of an array, of which one call takes two gigabytes at most; where they end."""
        left = memoryview(data.tobytes())
        while left:
            written = os.pwrite(self._file, left, at)
            left, at = left[written:], at + written
        return at

    def logits(self, ids: array[int], first: int) -> NDArray[np.float32]:
        """A copy of what `Reader.read` gives."""
        return self.reader.read(ids, first).copy()

    def close(self) -> None:
        """Free the model; the file stays."""
        self.reader.close()
        os.close(self._file)
