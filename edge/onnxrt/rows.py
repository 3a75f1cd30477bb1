"""Logits that stand in arrays, as llama.cpp's samplers take them."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from edge.llamacpp.native import api

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["ArrayRows", "LikeliestRows"]

_CANDIDATE = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])
"""`llama_token_data` of llama.h."""


class ArrayRows:
    """Implements `edge.llamacpp.sampler.Rows`.

    Args:
        n_vocab: size of the vocabulary.
        row: gives the logits `[V]` of a row.
    """

    def __init__(self, n_vocab: int, row: Callable[[int], NDArray[np.float32]]) -> None:
        self._api = api()
        self.n_vocab = n_vocab
        self.logits = row
        self._ids = np.arange(n_vocab, dtype=np.int32)
        self._candidates = np.zeros(n_vocab, _CANDIDATE)
        self._data = self._candidates.ctypes.data_as(ctypes.POINTER(self._api.llama_token_data))

    def choose(self, chain: Any, row: int) -> int:
        """The token that a `llama_sampler` chain takes, which it remembers."""
        # Samplers reorder and cut the list, so it is made anew, as llama.cpp does.
        self._candidates["id"] = self._ids
        self._candidates["logit"] = self.logits(row)
        array = self._api.llama_token_data_array(
            data=self._data, size=self.n_vocab, selected=-1, sorted=False
        )
        self._api.llama_sampler_apply(chain, ctypes.byref(array))
        token = int(self._candidates["id"][array.selected])
        self._api.llama_sampler_accept(chain, token)
        return token

    def logit(self, row: int, token: int) -> float:
        """One of them."""
        return float(self.logits(row)[token])


class LikeliestRows(ArrayRows):
    """For a chain that takes the likeliest token: a list of candidates would cost 3 % of decode."""

    def choose(self, chain: Any, row: int) -> int:  # noqa: ARG002
        """The token of the largest logit."""
        return int(self.logits(row).argmax())
