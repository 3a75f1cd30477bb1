"""What the KV cache holds, so that no common prefix is ever evaluated twice.

A sequence outlives the request that computed it: idle, it waits for the next
turn of its conversation. A new prompt takes over the idle sequence that it
continues, or forks a shared prefix (a system prompt) off any other, whose own
turns stay; or it loads one from where it waits outside the engine: RAM, then disk.

While somebody else is answered, idle sequences wait in RAM as far as it is
given. When that, cells or sequence numbers run short, the sequence idle for
longest goes to disk first.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from itertools import count

from edge.engine import Engine
from edge.kvstore import KVStore, common_prefix
from edge.swap_space import Swapped, SwapSpace

__all__ = ["Held", "Sequences"]

# Fewer tokens than this are evaluated sooner than a file is read and checked.
_WORTH_A_FILE = 32
# So many are evaluated sooner than a state is copied, or kept for their sake: a sequence that
# would lose more is another conversation, or another branch of this one, and stays as it is.
_FEW = 4
# Copying a token's state costs less than this part of evaluating it.
_COPY = 64


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
    """The engine's sequences; used from the engine's thread only.

    Args:
        engine: computes them.
        store: keeps them across restarts.
        swap_bytes: RAM beside the engine's for those that rest.
    """

    def __init__(self, engine: Engine, store: KVStore | None, swap_bytes: int) -> None:
        self._engine = engine
        self._store = store
        self._swap = SwapSpace(swap_bytes)
        self._held: list[Held] = []
        self._clock = count(1)

    def acquire(self, prompt: array[int], pinned: int) -> Held:
        """A sequence for `prompt` that holds as much of it as is known, and not all of it.

        The last token is always left to evaluate: its logits are wanted.
        """
        known = prompt[:-1]
        source, shared = self._best(known)
        swapped, in_ram = self._swap.best(known)
        held = self._from_disk(known, max(shared, in_ram))
        if held is None and swapped is not None and in_ram > shared + _FEW:
            held = self._from_swap(swapped, in_ram)
        if held is None:
            held = self._from_memory(source, shared)
        self._take(held, pinned)
        self._rest()
        return held

    def acquire_empty(self, pinned: int) -> Held:
        """A sequence that holds nothing; all idle ones leave the cells."""
        while self._drop_oldest():
            pass
        held = self._add(self._open())
        self._take(held, pinned)
        return held

    def _take(self, held: Held, pinned: int) -> None:
        held.pinned = pinned
        held.busy = True
        held.used = next(self._clock)

    def _best(self, prompt: array[int]) -> tuple[Held | None, int]:
        found, most = None, 0
        for held in self._held:
            n = common_prefix(held.tokens, prompt)
            if n > most:
                found, most = held, n
        return found, most

    def _from_memory(self, source: Held | None, shared: int) -> Held:
        if source is None:
            return self._add(self._open())
        if not source.busy and len(source.tokens) - shared <= _FEW:
            self._trim(source, shared)
            return source
        self._free_number(keep=source)
        held = self._add(self._engine.fork(source.seq, shared))
        held.tokens = source.tokens[: self._engine.length(held.seq)]
        return held

    def _from_swap(self, swapped: Swapped, shared: int) -> Held | None:
        n = len(swapped.tokens)
        if shared * _COPY < n:
            return None
        self._swap.remove(swapped)  # making room would drop it where it is the oldest
        held = self._add(self._open()) if self.make_room(n) else None
        if held is None or n - shared > _FEW:
            self._keep(swapped)
        if held is None:
            return None
        with memoryview(swapped.state) as state:
            self._engine.load(held.seq, state, n)
        held.tokens = swapped.tokens[:]
        held.saved = swapped.saved
        self._trim(held, shared)
        return held

    def _from_disk(self, prompt: array[int], elsewhere: int) -> Held | None:
        if self._store is None:
            return None
        saved, shared = self._store.best(prompt)
        if saved is None or shared < elsewhere + _WORTH_A_FILE:
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
        self._move_out(min(idle, key=lambda held: held.used))
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

    def idle(self) -> int:
        """How many sequences wait for a next turn, in cells or in RAM beside them."""
        return len(self._swap) + sum(not held.busy for held in self._held)

    # -- RAM beside the engine ---------------------------------------------------------

    def _rest(self) -> None:
        """Idle sequences leave the cells, as far as RAM is left for them."""
        idle = [held for held in self._held if not held.busy]
        for held in sorted(idle, key=lambda held: held.used):
            if self._engine.state_size(held.seq) <= self._swap.free:
                self._move_out(held)

    def _move_out(self, held: Held) -> None:
        """Free an idle sequence's cells: its state goes to RAM, or else to disk."""
        size = self._engine.state_size(held.seq)
        if size <= self._swap.most_bytes:
            self._save_pinned(held)
            state = bytearray(size)
            with memoryview(state) as view:
                self._engine.save(held.seq, view)
            self._keep(Swapped(held.tokens, state, held.pinned, held.saved))
        else:
            self.save(held)
        self._drop(held)

    def _keep(self, swapped: Swapped) -> None:
        """Keep a state in RAM; those that waited longer go to disk where it is full."""
        while self._swap.free < len(swapped.state):
            oldest = next(iter(self._swap))
            self.save(oldest)
            self._swap.remove(oldest)
        self._swap.put(swapped)

    # -- disk --------------------------------------------------------------------------

    def unsaved(self) -> Held | Swapped | None:
        """An idle sequence that the disk does not hold yet."""
        if self._store is None:
            return None
        idle: list[Held | Swapped] = [held for held in self._held if not held.busy]
        idle += self._swap
        for resting in idle:
            if not resting.saved and len(resting.tokens) >= _WORTH_A_FILE:
                return resting
        return None

    def save(self, resting: Held | Swapped) -> None:
        """Write a sequence, and its system prompt by itself, to disk."""
        if self._store is None or resting.saved or len(resting.tokens) < _WORTH_A_FILE:
            return
        resting.saved = True  # one try: a full disk is not asked again until there is more to save
        if isinstance(resting, Held):
            self._save_pinned(resting)
            written = self._write(resting.seq, resting.tokens)
        else:
            written = self._store.save(resting.tokens, len(resting.state), resting.copy_to)
        if written:
            self._store.drop_prefixes(resting.tokens, longer_than=resting.pinned)

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
        while (resting := self.unsaved()) is not None:
            self.save(resting)
