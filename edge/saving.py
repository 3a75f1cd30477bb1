"""Writing sequences at rest to disk, and their system prompts by themselves."""

from __future__ import annotations

import logging
from array import array
from collections.abc import Callable
from mmap import mmap

from edge.engine import Engine
from edge.errors import EngineError
from edge.held import Held
from edge.kvstore import KVStore
from edge.swap_space import Swapped

__all__ = ["WORTH_A_FILE", "Saver"]

_log = logging.getLogger(__name__)
WORTH_A_FILE = 32
"""Fewer tokens than this are evaluated sooner than a file is read and checked."""


class Saver:
    """Saves sequences of an engine; used from the engine's thread only."""

    def __init__(self, engine: Engine, store: KVStore) -> None:
        self._engine = engine
        self._store = store

    def lacks(self, one: Held | Swapped) -> bool:
        """Whether a sequence is worth a file that the disk does not hold yet."""
        return not one.saved and len(one.tokens) >= WORTH_A_FILE

    def save(self, one: Held | Swapped, *, spare: bool) -> None:
        """Write a sequence, and its system prompt by itself where there is room for that.

        It is tried once: a full disk is not asked again until there is more to save.

        Args:
            one: at rest.
            spare: whether the engine has a sequence number left.
        """
        if not self.lacks(one):
            return
        one.saved = True
        try:
            if spare:
                self._save_pinned(one)
            if isinstance(one, Held):
                written = self._write(one.seq, one.tokens)
            else:
                written = self._store.save(one.tokens, len(one.state), _copying(one.state))
        except EngineError as error:
            _log.warning("KV state not kept: %s", error)
            return
        if written:
            self._store.drop_prefixes(one.tokens, longer_than=one.pinned)

    def _save_pinned(self, one: Held | Swapped) -> None:
        prefix = one.tokens[: one.pinned]
        if not WORTH_A_FILE <= len(prefix) < len(one.tokens) or self._store.covers(prefix):
            return
        if isinstance(one, Held):
            seq = self._engine.fork(one.seq, one.pinned)
        elif self._engine.free_cells() >= len(one.tokens):
            seq = self._engine.open()
        else:
            return
        try:
            if isinstance(one, Swapped):
                with memoryview(one.state) as state:
                    self._engine.load(seq, state, len(one.tokens))
                self._engine.trim(seq, one.pinned)
            self._write(seq, prefix)
        finally:
            self._engine.close_seq(seq)

    def _write(self, seq: int, tokens: array[int]) -> bool:
        size = self._engine.state_size(seq)
        return self._store.save(tokens[:], size, lambda out: self._engine.save(seq, out))


def _copying(state: mmap) -> Callable[[memoryview], None]:
    def copy(out: memoryview) -> None:
        out[:] = state

    return copy
