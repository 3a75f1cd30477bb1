"""Many conversations over one loaded model: continuous batching (Orca, OSDI 2022).

One thread drives the engine. Requests join and leave between steps; a long
prompt is read in pieces, so that the others' answers go on meanwhile; where
cells run out, the newest request gives way and is taken up again later (vLLM's
preemption by recomputation, SOSP 2023).
"""

from __future__ import annotations

import threading
import time
from array import array
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Literal

from edge.batching import Batching
from edge.engine import AbortedError, Chunk, Engine, Sampled
from edge.errors import (
    ContextFullError,
    EngineError,
    LucieError,
    ModelChangedError,
    UsageError,
)
from edge.kvstore import KVStore
from edge.request import (
    Event,
    Failed,
    Load,
    Request,
    Token,
)
from edge.sequences import Sequences
from edge.ticket import Running, Ticket

__all__ = ["Scheduler"]

# Seconds of idleness after which KV states are written to disk: the SD card is spared
# the turns of a lively conversation, and a pulled plug costs one re-reading at most.
_SAVE_AFTER_S = 5.0
# Cells that each answer should find free when one more request joins.
_GROWTH = 64
_MOST_OVERTAKEN = 8
"""So many may begin before one that came earlier, which waits for more cells than they need."""


class Scheduler:
    """Owns the engine and its thread.

    Events reach `emit` in order, from the engine's thread; `emit` must not block.
    `Finished` or `Failed` is the last; after `cancel` nothing more comes.

    Args:
        engine: a loaded engine; used and closed by the scheduler's thread alone from now on.
        parallel: requests that are computed at once; more wait their turn.
        store: keeps KV states across restarts.
        swap_bytes: RAM for conversations that wait for their next turn while others are
            answered; what does not fit stays in the cells as long as these are not wanted.
    """

    def __init__(
        self,
        engine: Engine,
        parallel: int,
        store: KVStore | None = None,
        swap_bytes: int = 0,
    ) -> None:
        self._engine = engine
        self._parallel = parallel
        self._batching = Batching(engine.spec.n_batch)
        self._sequences = Sequences(engine, store, swap_bytes)
        self._changed = threading.Condition()
        self._inbox: deque[Ticket] = deque()
        self._waiting: deque[Ticket] = deque()
        self._active: list[Running] = []
        self._closing = False
        self._step_began: float | None = None
        self.end: Future[None] = Future()
        """Done when its thread has ended; holds what it died of, if it was not closed."""
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    # -- called from any thread ----------------------------------------------------------

    def submit(self, request: Request, emit: Callable[[Event], None]) -> Ticket:
        """Queue a request.

        Raises:
            EngineError: the scheduler is closed.
            UsageError: an empty prompt.
            ContextFullError: the prompt leaves no room for one token.
        """
        spec = self._engine.spec
        if not request.prompt:
            raise UsageError("engine.empty-prompt")
        if len(request.prompt) >= spec.n_ctx:
            raise ContextFullError(
                "engine.prompt-too-long", tokens=len(request.prompt), window=spec.n_ctx
            )
        ticket = Ticket(request, emit)
        with self._changed:
            if self._closing or not self._thread.is_alive():
                raise EngineError("engine.closed")
            self._inbox.append(ticket)
            self._changed.notify()
        return ticket

    def cancel(self, ticket: Ticket) -> None:
        """Forget a request within one step and free its sequence. Harmless when it is done."""
        with self._changed:
            ticket.cancelled = True
            if all(running.ticket.cancelled for running in list(self._active)):
                # Nobody waits for the step in progress. Where a new one has just begun for
                # somebody else, it begins again: nothing is lost by that.
                self._engine.interrupt()
            self._changed.notify()

    def close(self) -> None:
        """Stop at once: running requests get `Failed`, KV states are saved, the engine ends."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        while self._thread.is_alive():
            # A step that begins just now would not have heard of it.
            self._engine.interrupt()
            self._thread.join(0.05)

    def load(self) -> Load:
        """How busy it is, for a status page; a snapshot that may be a step old."""
        return Load(
            active=len(self._active),
            waiting=len(self._waiting) + len(self._inbox),
            idle=self._sequences.idle(),
            free_cells=self._engine.free_cells(),
        )

    def step_s(self) -> float:
        """For how long the engine has been at the step at hand, in seconds; 0 between steps."""
        began = self._step_began
        return 0.0 if began is None else time.perf_counter() - began

    # -- the engine's thread -------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._serve()
        except BaseException as error:
            self.end.set_exception(error)
            if not isinstance(error, LucieError):
                raise
        else:
            self.end.set_result(None)

    def _serve(self) -> None:
        try:
            while self._wait_for_work():
                self._drop_cancelled()
                self._admit()
                for ahead, ticket in enumerate(self._waiting):
                    ticket.tell_queued(ahead)
                if self._active:
                    self._step()
        finally:
            self._fail_all(EngineError("engine.closed"))
            try:
                self._sequences.save_all()
            finally:
                self._engine.close()

    def _wait_for_work(self) -> bool:
        """Block until there is something to do; False when closing. Idle time saves KV states."""
        pause = _SAVE_AFTER_S
        while True:
            unsaved = self._sequences.unsaved()
            woken = False
            with self._changed:
                if not (self._closing or self._inbox or self._waiting or self._active):
                    woken = self._changed.wait(None if unsaved is None else pause)
                if self._closing or self._inbox or self._waiting or self._active:
                    self._waiting.extend(self._inbox)
                    self._inbox.clear()
                    return not self._closing
            # A client that goes wakes us too; that is no time of idleness.
            if unsaved is not None and not woken:  # written without the lock, which others want
                self._sequences.save(unsaved)
                pause = 0.0

    def _drop_cancelled(self) -> None:
        for running in [r for r in self._active if r.ticket.cancelled]:
            self._leave(running)
        for ticket in [t for t in self._waiting if t.cancelled]:
            self._waiting.remove(ticket)
            ticket.close()

    def _admit(self) -> None:
        """Start waiting requests while there are places and cells."""
        while len(self._active) < self._parallel and (ticket := self._next()) is not None:
            self._waiting.remove(ticket)
            self._start(ticket)

    def _next(self) -> Ticket | None:
        """The first that finds cells; a long text lets short ones pass, but not for ever."""
        passed: list[Ticket] = []
        for ticket in self._waiting:
            if self._fits(ticket):
                for each in passed:
                    each.overtaken += 1
                return ticket
            if ticket.overtaken >= _MOST_OVERTAKEN:
                return None
            passed.append(ticket)
        return None

    def _fits(self, ticket: Ticket) -> bool:
        """Whether it pushes out nobody who is being answered; one that is alone may try."""
        growth = _GROWTH * (len(self._active) + 1)
        return not self._active or self._sequences.room_for(
            ticket.known, growth, reuse=ticket.request.reuse
        )

    def _start(self, ticket: Ticket) -> None:
        ticket.started = ticket.started or time.perf_counter()
        request = ticket.request
        try:
            if ticket.sampler is None:
                ticket.sampler = self._engine.sampler(
                    request.sampling, request.prompt, request.constraint
                )
            held = (
                self._sequences.acquire(ticket.known, request.pinned)
                if request.reuse
                else self._sequences.acquire_empty(request.pinned)
            )
        except LucieError as error:
            ticket.close()
            ticket.emit(Failed(error))
            return
        self._active.append(Running(ticket, held, ticket.sampler))
        if not ticket.chosen:
            ticket.reused = len(held.tokens)
        ticket.tell_prefill(len(held.tokens))

    def _step(self) -> None:
        """Evaluate one batch for all active requests, and choose their next tokens."""
        batch = self._batching.plan(self._active)
        while not self._sequences.make_room(sum(len(chunk.ids) for _, chunk in batch)):
            if not self._give_way():
                return
            batch = self._batching.plan(self._active)
        began = self._step_began = time.perf_counter()
        try:
            steady = any(not running.ticket.request.reuse for running, _ in batch)
            rows = self._engine.step([chunk for _, chunk in batch], steady=steady)
        except AbortedError:
            return
        except ModelChangedError as error:
            self._fail_all(error)
            raise
        except LucieError as error:
            self._fail_all(error)
            return
        finally:
            self._step_began = None
        tokens = sum(len(chunk.ids) for _, chunk in batch)
        self._batching.took(tokens, time.perf_counter() - began)
        for (running, chunk), row in zip(batch, rows, strict=True):
            self._advance(running, chunk, row)

    def _give_way(self) -> bool:
        """Too few cells for all: the newest waits again; one that is alone is at its end."""
        newest = self._active[-1]
        if len(self._active) == 1:
            self._finish(newest, "length")
            return False
        self._active.pop()
        self._sequences.discard(newest.held)
        self._waiting.appendleft(newest.ticket)
        return True

    def _advance(self, running: Running, chunk: Chunk, row: int) -> None:
        """Note what was evaluated; where the end of what is known was reached, choose a token."""
        ticket = running.ticket
        self._sequences.extend(running.held, array("i", chunk.ids))
        if not ticket.chosen:
            ticket.evaluated += len(chunk.ids)
            ticket.tell_prefill(len(running.held.tokens))
        if row < 0 or ticket.cancelled:
            return
        try:
            sampled = running.sampler.sample(row)
        except LucieError as error:
            self._leave(running)
            ticket.emit(Failed(error))
            return
        ticket.first = ticket.first or time.perf_counter()
        ticket.known.append(sampled.id)
        self._tell_token(running, sampled)

    def _tell_token(self, running: Running, sampled: Sampled) -> None:
        ticket = running.ticket
        if sampled.id in self._engine.tokenizer.eog:
            self._finish(running, "stop")
            return
        ticket.emit(Token(sampled))
        constraint = ticket.request.constraint
        if constraint is not None and constraint.finished():
            self._finish(running, "stop")
        elif (
            ticket.chosen >= ticket.request.max_tokens
            or len(ticket.known) > self._engine.spec.n_ctx
        ):
            self._finish(running, "length")

    def _finish(self, running: Running, reason: Literal["stop", "length"]) -> None:
        closing = running.ticket.finished(reason, running.sampler.seed)
        self._leave(running)
        if not running.ticket.cancelled:
            running.ticket.emit(closing)

    def _leave(self, running: Running) -> None:
        """A request is over: its place is free, its sequence waits for the next turn."""
        self._active.remove(running)
        self._sequences.release(running.held)
        running.ticket.close()

    def _fail_all(self, error: LucieError) -> None:
        with self._changed:
            self._waiting.extend(self._inbox)
            self._inbox.clear()
        failed = [*(r.ticket for r in self._active), *self._waiting]
        for running in list(self._active):
            self._leave(running)
        for ticket in failed:
            ticket.close()
            if not ticket.cancelled:
                ticket.emit(Failed(error))
        self._waiting.clear()
