"""The tokens of one step, as llama.cpp takes them."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Sequence
from typing import Any

from edge.llamacpp.native import api

__all__ = ["Batch"]

_Ids = ctypes.POINTER(ctypes.c_int32)


class Batch:
    """A `llama_batch` over arrays that Python fills a chunk at a time.

    After the weights have passed through the processor's cache each access costs
    several times its usual price, so a step of one token makes only five.

    Args:
        capacity: tokens that it can hold.
    """

    def __init__(self, capacity: int) -> None:
        self._tokens: Any = (ctypes.c_int32 * capacity)()
        self._positions: Any = (ctypes.c_int32 * capacity)()
        self._seqs: Any = (ctypes.c_int32 * capacity)()
        self._wanted: Any = (ctypes.c_int8 * capacity)()
        # Each token belongs to one sequence, whose number stands in its place of `_seqs`.
        self._counts = (ctypes.c_int32 * capacity)(*[1] * capacity)
        first, size = ctypes.addressof(self._seqs), ctypes.sizeof(ctypes.c_int32)
        places = [ctypes.cast(first + size * i, _Ids) for i in range(capacity)]
        self._places = (_Ids * capacity)(*places)
        self.native: Any = api().llama_batch(
            n_tokens=0,
            token=ctypes.cast(self._tokens, _Ids),
            embd=None,
            pos=ctypes.cast(self._positions, _Ids),
            n_seq_id=ctypes.cast(self._counts, _Ids),
            seq_id=ctypes.cast(self._places, ctypes.POINTER(_Ids)),
            logits=ctypes.cast(self._wanted, ctypes.POINTER(ctypes.c_int8)),
        )
        """What `llama_decode` is given."""

    def fill(self, chunks: Iterable[tuple[int, int, Sequence[int], bool]]) -> list[int]:
        """Replace what it holds.

        Args:
            chunks: for each its sequence, the position of its first token, its tokens, and
                whether the logits after them are wanted.

        Returns:
            The row of each chunk's logits, -1 where they are not wanted.
        """
        rows = []
        at = 0
        for seq, start, ids, sample in chunks:
            n = len(ids)
            end = at + n
            self._tokens[at:end] = ids
            self._positions[at:end] = range(start, start + n)
            self._seqs[at:end] = [seq] * n
            self._wanted[at:end] = bytes(n)
            self._wanted[end - 1] = sample
            rows.append(end - 1 if sample else -1)
            at = end
        self.native.n_tokens = at
        return rows
