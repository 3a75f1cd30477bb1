"""What the KV cache holds, so that no common prefix is ever evaluated twice.

A sequence outlives the request that computed it: idle, it waits for the next
turn of its conversation. A new prompt takes over the idle sequence that it
continues, or forks a shared prefix (a system prompt) off any other, or loads
it from disk. When cells or sequence numbers run short, the sequence idle for
longest goes first.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from itertools import count

from edge.engine import Engine
from edge.kvstore import KVStore, common_prefix

__all__ = ["Held", "Sequences"]

# Fewer tokens than this are evaluated sooner than a file is read and checked.
_WORTH_A_FILE = 32


@dataclass(eq=False, slots=True)
class Held:
    """One sequence of the engine and the tokens whose KV state it holds."""

    seq: int
    tokens: array[int] = field(default_factory=lambda: array("i"))
    pinned: int = 0
    """Length of its system prompt, in tokens."""
    busy: bool = True
    saved: bool = False
    """Whether the disk holds all of it."""
    used: int = 0
    """When it was last used, as a running number."""


class Sequences:
    """The engine's sequences; used from the engine's thread only."""

    def __init__(self, engine: Engine, store: KVStore | None) -> None:
        self._engine = engine
        self._store = store
        self._held: list[Held] = []
        self._clock = count(1)

    def acquire(self, prompt: array[int], pinned: int) -> Held:
        """A sequence for `prompt` that holds as much of it as is known, and not all of it.

        The last token is always left to evaluate: its logits are wanted.
        """
        limit = len(prompt) - 1
        source, shared = self._best(prompt[:limit])
        held = self._from_disk(prompt[:limit], shared)
        if held is None:
            held = self._from_memory(source, shared, pinned)
        held.pinned = pinned
        held.busy = True
        held.used = next(self._clock)
        return held

    def _best(self, prompt: array[int]) -> tuple[Held | None, int]:
        found, most = None, 0
        for held in self._held:
            n = common_prefix(held.tokens, prompt)
            if n > most:
                found, most = held, n
        return found, most

    def _from_memory(self, source: Held | None, shared: int, pinned: int) -> Held:
        if source is None:
            return self._add(self._open())
        # Beyond the system prompt the tokens are one conversation's own: it goes on.
        if not source.busy and shared > pinned:
            self._trim(source, shared)
            return source
        source.used = next(self._clock)
        self._free_number(keep=source)
        held = self._add(self._engine.fork(source.seq, shared))
        held.tokens = source.tokens[:shared]
        return held

    def _from_disk(self, prompt: array[int], in_memory: int) -> Held | None:
        if self._store is None:
            return None
        saved, shared = self._store.best(prompt)
        if saved is None or shared < in_memory + _WORTH_A_FILE:
            return None
        if not self.make_room(len(saved.tokens)):
            return None
        held = self._add(self._open())
        n = len(saved.tokens)
        if not self._store.load(saved, lambda state: self._engine.load(held.seq, state, n)):
            self._drop(held)
            return None
        held.tokens = array("i", saved.tokens)
        held.saved = True
        self._trim(held, shared)
        return held

    def _trim(self, held: Held, n: int) -> None:
        if n < len(held.tokens):
            kept = self._engine.trim(held.seq, n)
            del held.tokens[kept:]
            held.saved = False

    def _open(self) -> int:
        self._free_number()
        return self._engine.open()

    def _add(self, seq: int) -> Held:
        held = Held(seq)
        self._held.append(held)
        return held

    def _free_number(self, keep: Held | None = None) -> None:
        """See that the engine has a sequence number left, by dropping an idle sequence."""
        if len(self._held) >= self._engine.spec.n_seq:
            self._drop_oldest(keep)

    def room_for(self, prompt: array[int], more: int) -> bool:
        """Whether what is not known of `prompt`, and `more` tokens, fit; drops idle sequences.

        The one that the prompt continues stays: dropping it would cost what it saves.
        """
        source, shared = self._best(prompt)
        return self.make_room(len(prompt) - shared + more, keep=source)

    def make_room(self, cells: int, keep: Held | None = None) -> bool:
        """Drop idle sequences until `cells` are free; False where that is not enough."""
        while self._engine.free_cells() < cells:
            if not self._drop_oldest(keep):
                return False
        return True

    def _drop_oldest(self, keep: Held | None = None) -> bool:
        idle = [held for held in self._held if not held.busy and held is not keep]
        if not idle:
            return False
        oldest = min(idle, key=lambda held: held.used)
        self.save(oldest)
        self._drop(oldest)
        return True

    def _drop(self, held: Held) -> None:
        self._engine.close_seq(held.seq)
        self._held.remove(held)

    def extend(self, held: Held, tokens: array[int]) -> None:
        """Note that the engine evaluated `tokens` at the end of a sequence."""
        held.tokens += tokens
        held.saved = False

    def release(self, held: Held) -> None:
        """The request is done; the sequence waits for the next turn."""
        held.busy = False
        held.used = next(self._clock)

    def discard(self, held: Held) -> None:
        """The request gave up its sequence; nothing of it is kept."""
        self._drop(held)

    # -- disk --------------------------------------------------------------------------

    def unsaved(self) -> Held | None:
        """An idle sequence that the disk does not hold yet."""
        for held in self._held:
            if not held.busy and not held.saved and self._worth_saving(held):
                return held
        return None

    def _worth_saving(self, held: Held) -> bool:
        return self._store is not None and len(held.tokens) >= _WORTH_A_FILE

    def save(self, held: Held) -> None:
        """Write a sequence, and its system prompt by itself, to disk."""
        if self._store is None or held.saved or not self._worth_saving(held):
            return
        held.saved = True  # one try: a full disk is not asked again until there is more to save
        self._save_pinned(held)
        if self._write(held.seq, held.tokens):
            self._store.drop_prefixes(held.tokens, longer_than=held.pinned)

    def _save_pinned(self, held: Held) -> None:
        prefix = held.tokens[: held.pinned]
        if self._store is None or len(prefix) < _WORTH_A_FILE or self._store.covers(prefix):
            return
        if len(self._held) < self._engine.spec.n_seq:
            seq = self._engine.fork(held.seq, held.pinned)
            self._write(seq, prefix)
            self._engine.close_seq(seq)

    def _write(self, seq: int, tokens: array[int]) -> bool:
        if self._store is None:
            return False
        size = self._engine.state_size(seq)
        return self._store.save(array("i", tokens), size, lambda out: self._engine.save(seq, out))

    def save_all(self) -> None:
        """Write every idle sequence to disk."""
        for held in self._held:
            if not held.busy:
                self.save(held)

    def idle(self) -> int:
        """How many sequences wait for a next turn."""
        return sum(not held.busy for held in self._held)
