"""The keys and values of one sequence, in the two ways that graphs treat them.

`InPlace`: the graph writes what is new into the buffer that it reads (GroupQueryAttention).
A buffer for the whole window is reserved, and takes memory only as far as it is filled, as
the system gives pages when they are touched. The attention mask says how far that is, so a
sequence is cut by clearing the end of its mask, and a token is decoded without binding
anything anew.

`Growing`: the graph gives back old and new together, as plain exports do; every step copies.
"""

from __future__ import annotations

from collections.abc import Sequence
from mmap import MAP_ANONYMOUS, MAP_PRIVATE, mmap
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from edge.onnxrt.graph import Graph

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MAP_NORESERVE = 0x4000
"""Linux's flag for pages that are promised to nobody before they are touched; Python has a name
for it since 3.13."""

__all__ = ["Growing", "InPlace", "Memory", "open_memory"]


class Memory(Protocol):
    """One sequence's keys and values, and the logits after its last step."""

    length: int
    """Tokens that count; there may be more behind them, of a step that failed."""
    logits: NDArray[np.float32]
    """[V], after the last token."""

    def run(self, ids: Sequence[int], options: Any) -> None:
        """Compute keys, values and logits of T tokens behind `length`, which stays."""

    def trim(self, n: int) -> None:
        """Keep the first `n` tokens."""

    def read(self, n: int) -> list[NDArray[Any]]:
        """For each layer keys and values [KV, n, D] of the first `n` tokens."""

    def write(self, parts: list[NDArray[Any]]) -> None:
        """Begin with these, which `read` gave."""


def open_memory(graph: Graph, n_ctx: int) -> Memory:
    """An empty sequence of at most `n_ctx` tokens."""
    return InPlace(graph, n_ctx) if graph.in_place else Growing(graph)


def _value(array: NDArray[Any]) -> Any:
    """As ONNX Runtime takes it, without a copy."""
    from onnxruntime import OrtValue

    return OrtValue.ortvalue_from_numpy(array)


class InPlace:
    """Buffers of fixed size, filled as the sequence grows."""

    def __init__(self, graph: Graph, n_ctx: int) -> None:
        self._graph = graph
        self.length = 0
        shape = (2 * graph.n_layer, 1, graph.n_head_kv, n_ctx, graph.head_dim)
        size = int(np.prod(shape)) * graph.dtype.itemsize
        pages = mmap(-1, size, flags=MAP_PRIVATE | MAP_ANONYMOUS | _MAP_NORESERVE)
        self._caches: NDArray[Any] = np.frombuffer(pages, graph.dtype).reshape(shape)
        self._mask = np.zeros((1, n_ctx), np.int64)
        self._one = np.zeros((1, 1), np.int64)
        self._place = np.zeros((1, 1), np.int64)
        self._logits = np.zeros((1, 1, graph.n_vocab), np.float32)
        self.logits = self._logits[0, 0]
        self._binding = graph.session.io_binding()
        self._kept: list[Any] = []
        for (past, present), cache in zip(graph.caches, self._caches, strict=True):
            value = self._bind(past, cache)
            self._binding.bind_ortvalue_output(present, value)
        self._bind("attention_mask", self._mask)
        self._decoding = False

    def _bind(self, name: str, array: NDArray[Any]) -> Any:
        value = _value(array)
        self._binding.bind_ortvalue_input(name, value)
        self._kept.append(value)
        return value

    def run(self, ids: Sequence[int], options: Any) -> None:
        """Compute keys, values and logits of T tokens behind `length`, which stays."""
        n = len(ids)
        self._mask[0, self.length : self.length + n] = 1
        try:
            if n == 1:
                self._decode(ids[0], options)
            else:
                self._prefill(ids, options)
        except BaseException:
            self._mask[0, self.length :] = 0
            raise

    def _decode(self, token: int, options: Any) -> None:
        self._one[0, 0] = token
        self._place[0, 0] = self.length
        if not self._decoding:
            del self._kept[2 * self._graph.n_layer + 1 :]
            self._bind("input_ids", self._one)
            if self._graph.wants_positions:
                self._bind("position_ids", self._place)
            value = _value(self._logits)
            self._binding.bind_ortvalue_output("logits", value)
            self._kept.append(value)
            self._decoding = True
        self._graph.session.run_with_iobinding(self._binding, options)

    def _prefill(self, ids: Sequence[int], options: Any) -> None:
        self._decoding = False
        n = len(ids)
        del self._kept[2 * self._graph.n_layer + 1 :]
        self._bind("input_ids", np.array([ids], np.int64))
        if self._graph.wants_positions:
            self._bind("position_ids", np.arange(self.length, self.length + n)[None])
        rows = 1 if self._graph.last_only else n
        logits = self._logits if rows == 1 else np.empty((1, n, self._graph.n_vocab), np.float32)
        value = _value(logits)
        self._binding.bind_ortvalue_output("logits", value)
        self._kept.append(value)
        self._graph.session.run_with_iobinding(self._binding, options)
        if rows > 1:
            self.logits[:] = logits[0, -1]

    def trim(self, n: int) -> None:
        """Keep the first `n` tokens."""
        self._mask[0, n:] = 0
        self.length = n

    def read(self, n: int) -> list[NDArray[Any]]:
        """For each layer keys and values [KV, n, D] of the first `n` tokens."""
        return [cache[0, :, :n] for cache in self._caches]

    def write(self, parts: list[NDArray[Any]]) -> None:
        """Begin with these, which `read` gave."""
        n = parts[0].shape[1]
        for cache, part in zip(self._caches, parts, strict=True):
            cache[0, :, :n] = part
        self._mask[0, :n] = 1
        self._mask[0, n:] = 0
        self.length = n


class Growing:
    """Arrays that are as long as the sequence, new ones after each step."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self.length = 0
        empty = np.zeros((1, graph.n_head_kv, 0, graph.head_dim), graph.dtype)
        self._caches: list[NDArray[Any]] = [empty] * len(graph.caches)
        self.logits = np.zeros(graph.n_vocab, np.float32)

    def run(self, ids: Sequence[int], options: Any) -> None:
        """Compute keys, values and logits of T tokens behind `length`, which stays."""
        self.logits[:] = self.forward(ids, options)[-1]

    def forward(self, ids: Sequence[int], options: Any) -> NDArray[np.float32]:
        """The same; returns all logits that the graph gives, [T, V] or [1, V]."""
        graph = self._graph
        self._cut(self.length)
        end = self.length + len(ids)
        given: dict[str, NDArray[Any]] = {
            "input_ids": np.array([ids], np.int64),
            "attention_mask": np.ones((1, end), np.int64),
        }
        if graph.wants_positions:
            given["position_ids"] = np.arange(self.length, end, dtype=np.int64)[None]
        given |= {past: cache for (past, _), cache in zip(graph.caches, self._caches, strict=True)}
        wanted = ["logits", *(present for _, present in graph.caches)]
        first, *self._caches = graph.session.run(wanted, given, options)
        logits: NDArray[np.float32] = first[0]
        return logits

    def _cut(self, n: int) -> None:
        if self._caches[0].shape[2] > n:
            self._caches = [np.ascontiguousarray(cache[:, :, :n]) for cache in self._caches]

    def trim(self, n: int) -> None:
        """Keep the first `n` tokens."""
        self.length = n
        self._cut(n)

    def read(self, n: int) -> list[NDArray[Any]]:
        """For each layer keys and values [KV, n, D] of the first `n` tokens."""
        return [cache[0, :, :n] for cache in self._caches]

    def write(self, parts: list[NDArray[Any]]) -> None:
        """Begin with these, which `read` gave."""
        self._caches = [part[None].copy() for part in parts]
        self.length = parts[0].shape[1]
