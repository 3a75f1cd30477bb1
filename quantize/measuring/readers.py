"""Whatever reads a text and says what it expected: the one interface of all measurements."""

from __future__ import annotations

from array import array
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from quantize.measuring.reading import Reader

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["AnyReader", "ReaderVocab", "open_reader"]


class ReaderVocab(Protocol):
    """What a measurement asks of a tokenizer."""

    n_vocab: int

    def encode(self, text: str, *, special: bool, bos: bool = False) -> list[int]:
        """Ids of `text`; `special` reads spellings of control tokens as those tokens."""

    def piece(self, token: int) -> bytes:
        """The bytes of one token, b"" for control tokens."""


class AnyReader(Protocol):
    """One loaded model, read a chunk at a time."""

    chunk: int

    @property
    def vocab(self) -> ReaderVocab:
        """Its tokenizer."""

    def tokens(self, text: str) -> array[int]:
        """Ids of a whole text, BOS first where the model wants one; no control tokens."""

    def read(self, ids: array[int], first: int = 0) -> NDArray[np.float32]:
        """Logits [T - first, V] of T ≤ `chunk` tokens, valid until the next call."""

    def continue_greedily(self, ids: array[int], n: int) -> array[int]:
        """`n` tokens, each the likeliest after all before it."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


def open_reader(path: Path, chunk: int, threads: int) -> AnyReader:
    """The reader for files of that format.

    Args:
        path: a GGUF or ONNX file.
        chunk: tokens that are read together.
        threads: threads to compute with; 0: one for each core.

    Raises:
        ModelError: the file is damaged or of an unknown kind.
        EngineError: what computes it is not there, or memory is not.
    """
    if path.suffix == ".onnx":
        from quantize.measuring.graph_reading import GraphReader

        return GraphReader(path, chunk, threads)
    return Reader(path, chunk, threads)
