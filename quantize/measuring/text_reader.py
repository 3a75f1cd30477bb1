"""Whatever reads a text and says what it expected: the one interface of all measurements.

A text is cut into chunks of equal length, each read from an empty cache, the first token of
each replaced by BOS where the model wants one (as llama-imatrix and llama-perplexity do, so
that figures can be compared).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from array import array
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edge.text import TextStream

__all__ = ["ReaderVocab", "TextReader"]


class ReaderVocab(Protocol):
    """What a measurement asks of a tokenizer."""

    n_vocab: int
    bos: int
    add_bos: bool

    def encode(self, text: str, *, special: bool, bos: bool = False) -> list[int]:
        """Ids of `text`; `special` reads spellings of control tokens as those tokens."""

    def piece(self, token: int) -> bytes:
        """The bytes of one token, b"" for control tokens."""

    def stream(self) -> TextStream:
        """What turns the tokens of one answer into text."""


class TextReader(ABC):
    """One loaded model. Whoever opens it closes it (`contextlib.closing`)."""

    chunk: int
    """Most tokens that are in the cache together."""
    vocab: ReaderVocab

    def tokens(self, text: str) -> array[int]:
        """Ids of a whole text, BOS first where the model wants one; no control tokens."""
        return array("i", self.vocab.encode(text, special=False, bos=True))

    def read(self, ids: array[int], first: int = 0) -> NDArray[np.float32]:
        """Logits [T - first, V] of T ≤ `chunk` tokens, valid until the next call.

        Args:
            ids: the tokens.
            first: logits are wanted after this token and all that follow.

        Raises:
            EngineError: the model could not be computed.
        """
        self._forget()
        ids = ids[:]
        if self.vocab.add_bos:
            ids[0] = self.vocab.bos
        return self._read_on(ids, first)

    def continue_greedily(self, ids: array[int], n: int) -> array[int]:
        """The likeliest token after T `ids`, the likeliest after that, and so on: `n` of them.

        T + n must not exceed `chunk`.

        Raises:
            EngineError: the model could not be computed.
        """
        found = array("i")
        logits = self.read(ids, len(ids) - 1)
        while True:
            found.append(int(logits[-1].argmax()))
            if len(found) == n:
                return found
            logits = self._read_on(found[-1:], 0)

    @abstractmethod
    def _forget(self) -> None:
        """Empty the cache."""

    @abstractmethod
    def _read_on(self, ids: array[int], first: int) -> NDArray[np.float32]:
        """Read tokens behind those in the cache; logits as for `read`."""

    @abstractmethod
    def close(self) -> None:
        """Free the model."""
