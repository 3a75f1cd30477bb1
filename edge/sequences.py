"""What the KV cache holds, so that no common prefix is ever evaluated twice.

A sequence outlives the request that computed it: idle, it waits for the next
turn of its conversation. A new prompt takes over the idle sequence that it
continues, or forks a shared prefix (a system prompt) off any other, whose own
turns stay; or it loads one from where it waits outside the engine: RAM, then disk.

While somebody else is answered, idle sequences wait in RAM as far as it is
given. When cells or sequence numbers run short, the one idle for longest makes
way: to RAM, whose own oldest go to disk, or else to disk itself.
"""

from __future__ import annotations

import logging
from array import array
from itertools import count
from mmap import MAP_ANONYMOUS, MAP_PRIVATE, mmap

from edge.engine import Engine
from edge.errors import EngineError
from edge.held import Held
from edge.kvstore import KVStore
from edge.prefixes import longest_shared
from edge.saving import WORTH_A_FILE, Saver
from edge.swap_space import Swapped, SwapSpace

__all__ = ["Sequences"]

_log = logging.getLogger(__name__)
# So few are evaluated sooner than a state is copied, or kept for their sake.
_FEW = 4
# Copying a token's state costs less than this part of evaluating it.
_COPY = 1 / 64
# A prompt that leaves more than this part of what it shares behind, and more than a few
# tokens, is another conversation: the sequence stays as it is.
_BRANCH = 1 / 8


def _goes_on(tokens: array[int], shared: int) -> bool:
    """Whether a prompt that shares so much with a sequence is its next turn."""
    return len(tokens) - shared <= max(_FEW, shared * _BRANCH)


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
        self._saver = None if store is None else Saver(engine, store)
        self._swap = SwapSpace(swap_bytes)
        self._held: list[Held] = []
        self._clock = count(1)

    def acquire(self, prompt: array[int], pinned: int) -> Held:
        """A sequence for `prompt` that holds as much of it as is known, and not all of it.

        The last token is always left to evaluate: its logits are wanted.
        """
        known = prompt[:-1]
        # Each looks for itself: making room for one may drop what another would have taken.
        held = self._from_disk(known) or self._from_swap(known) or self._from_memory(known)
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

    def _from_memory(self, prompt: array[int]) -> Held:
        source, shared = longest_shared(self._held, prompt)
        if source is None:
            return self._add(self._open())
        if not source.busy and _goes_on(source.tokens, shared):
            self._trim(source, shared)
            return source
        self._free_number(keep=source)
        if not self._engine.spec.forks_share and not self.make_room(shared, keep=source):
            return self._add(self._open())  # evaluated anew
        held = self._add(self._engine.fork(source.seq, shared))
        held.tokens = source.tokens[:shared]
        return held

    def _from_swap(self, prompt: array[int]) -> Held | None:
        swapped, shared = longest_shared(self._swap, prompt, _COPY)
        if swapped is None or shared <= longest_shared(self._held, prompt)[1] + _FEW:
            return None
        self._swap.touch(swapped)
        # First, so that it takes the first cells: attention walks up to the last in use.
        self._rest()
        if not self.make_room(len(swapped.tokens)):
            return None
        held = self._add(self._open())
        if swapped not in self._swap:  # it had to make room itself
            self._drop(held)
            return self._from_disk(prompt)
        if not self._load(held, swapped):
            self._swap.remove(swapped)
            return None
        if _goes_on(swapped.tokens, shared):
            self._swap.remove(swapped)
        self._trim(held, shared)
        return held

    def _load(self, held: Held, swapped: Swapped) -> bool:
        try:
            with memoryview(swapped.state) as state:
                self._engine.load(held.seq, state, len(swapped.tokens))
        except EngineError as error:
            _log.warning("a KV state in RAM is of no use: %s", error)
            self._drop(held)
            return False
        held.tokens = swapped.tokens[:]
        held.saved = swapped.saved
        return True

    def _from_disk(self, prompt: array[int]) -> Held | None:
        if self._store is None:
            return None
        saved, shared = self._store.best(prompt)
        in_memory = longest_shared(self._held, prompt)[1]
        elsewhere = max(in_memory, longest_shared(self._swap, prompt, _COPY)[1])
        if saved is None or shared < elsewhere + WORTH_A_FILE:
            return None
        self._rest()
        n = len(saved.tokens)
        if not self.make_room(n):
            return None
        held = self._add(self._open())
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

    def extend(self, held: Held, tokens: array[int]) -> None:
        """Note that the engine evaluated `tokens` at the end of a sequence."""
        held.tokens += tokens
        held.saved = False

    def release(self, held: Held) -> None:
        """The request is done; the sequence waits for the next turn."""
        if held.doomed:
            self._drop(held)
            return
        held.busy = False
        held.used = next(self._clock)

    def discard(self, held: Held) -> None:
        """The request gave up its sequence; nothing of it is kept."""
        self._drop(held)

    def _drop(self, held: Held) -> None:
        self._engine.close_seq(held.seq)
        self._held.remove(held)

    def idle(self) -> int:
        """How many sequences wait for a next turn, in cells or in RAM beside them."""
        return len(self._swap) + len(self._idle())

    def _idle(self) -> list[Held]:
        """The idle ones, the one idle for longest first."""
        idle = (held for held in self._held if not held.busy)
        return sorted(idle, key=lambda held: held.used)

    # -- room --------------------------------------------------------------------------

    def room_for(self, prompt: array[int], more: int, *, reuse: bool) -> bool:
        """Whether what is not known of `prompt`, and `more` tokens, fit; drops idle sequences.

        The one that the prompt continues stays: dropping it would cost what it saves.
        """
        source, shared = longest_shared(self._held, prompt) if reuse else (None, 0)
        forked = source is not None and (source.busy or not _goes_on(source.tokens, shared))
        if forked and not self._engine.spec.forks_share:
            shared = 0
        return self.make_room(len(prompt) - shared + more, keep=source)

    def make_room(self, cells: int, keep: Held | None = None) -> bool:
        """Drop idle sequences until `cells` are free; False where that is not enough."""
        while self._engine.free_cells() < cells:
            if not self._drop_oldest(keep):
                return False
        return True

    def _free_number(self, keep: Held | None = None) -> None:
        """See that the engine has a sequence number left, by dropping an idle sequence."""
        if len(self._held) >= self._engine.spec.n_seq:
            self._drop_oldest(keep)

    def _drop_oldest(self, keep: Held | None = None) -> bool:
        oldest = next((held for held in self._idle() if held is not keep), None)
        if oldest is not None:
            self._move_out(oldest)
        return oldest is not None

    def _rest(self) -> None:
        """Idle sequences leave the cells, as far as RAM is left that the disk cannot give back."""
        for held in self._idle():
            if self._engine.state_size(held.seq) <= self._swap.cheap:
                self._move_out(held)

    def _move_out(self, held: Held) -> None:
        """Free an idle sequence's cells: its state goes to RAM, or else to disk."""
        try:
            size = self._engine.state_size(held.seq)
            if len(held.tokens) <= _FEW:
                pass
            elif 0 < size <= self._swap.most_bytes:
                self._to_ram(held, size)
            else:
                self.save(held)
        except (EngineError, OSError) as error:  # OSError: the system gives no memory
            _log.warning("a KV state is lost: %s", error or type(error).__name__)
        finally:
            self._drop(held)

    def _to_ram(self, held: Held, size: int) -> None:
        while self._swap.free < size:
            self._forget_oldest()
        state = mmap(-1, size, flags=MAP_PRIVATE | MAP_ANONYMOUS)
        with memoryview(state) as view:
            self._engine.save(held.seq, view)
        self._swap.put(Swapped(held.tokens, state, held.pinned, held.saved))

    def _forget_oldest(self) -> None:
        # A method of its own: a name for it would keep its memory while the next is copied.
        oldest = self._swap.first_to_go()
        self.save(oldest)
        self._swap.remove(oldest)

    # -- disk --------------------------------------------------------------------------

    def unsaved(self) -> Held | Swapped | None:
        """A sequence at rest that the disk does not hold yet; the one used last comes last.

        Where the disk was to forget since, so do the cells and RAM: a text that was deleted may
        be in any sequence.
        """
        if self._store is None or self._saver is None:
            return None
        if self._store.forgotten():
            self._forget()
        resting: list[Held | Swapped] = [*self._swap]
        resting += self._idle()
        return next(filter(self._saver.lacks, resting), None)

    def _forget(self) -> None:
        for held in self._idle():
            self._drop(held)
        for swapped in list(self._swap):
            self._swap.remove(swapped)
        for held in self._held:
            held.doomed = True

    def save(self, one: Held | Swapped) -> None:
        """Write a sequence to disk, where there is one."""
        if self._saver is not None:
            self._saver.save(one, spare=len(self._held) < self._engine.spec.n_seq)

    def save_all(self) -> None:
        """Write every idle sequence to disk."""
        while (one := self.unsaved()) is not None:
            self.save(one)
