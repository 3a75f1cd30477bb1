"""From the engine's thread to the server's event loop, one wake-up for many events.

Each wake-up costs some 200 µs of a core that the engine wants, and takes the
interpreter lock from it between two steps. So where tokens come faster than
`INTERVAL`, they wait for its end, and the engine's thread only appends to a queue.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Protocol

from edge.errors import EngineError, LucieError
from edge.request import Event, Failed, Request, Token
from edge.ticket import Ticket

__all__ = ["INTERVAL", "MAX_UNREAD", "SILENCE", "EventStream", "Mailbox", "Submitter"]

INTERVAL = 0.04
"""Seconds between deliveries of tokens, short enough to look like a steady flow."""
_OFTEN = 1.2 * INTERVAL  # slower tokens are delivered one by one: waiting would save nothing
SILENCE = 10.0
"""Seconds without news after which a stream says that it is alive."""
MAX_UNREAD = 4096
"""Events that a client may leave unread before its request is given up."""


class Submitter(Protocol):
    """What of the scheduler is needed here."""

    def submit(self, request: Request, emit: Callable[[Event], None]) -> Ticket:
        """Queue a request."""

    def cancel(self, ticket: Ticket) -> None:
        """Forget a request."""


class Mailbox:
    """Events of all requests on their way to `loop`."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._posted: deque[tuple[EventStream, Event]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._delivered = 0.0
        self._expected = False
        """Whether a delivery is on its way, so that nobody need ask for one."""

    def post(self, stream: EventStream, event: Event) -> None:
        """From the engine's thread: hand over one event. Never blocks."""
        self._posted.append((stream, event))
        if not self._expected or not isinstance(event, Token):
            self._expected = True
            self._loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now = self._loop.time()
        often = now - self._delivered < _OFTEN
        if self._hand_out():
            self._delivered = now
            if often:
                self._timer = self._loop.call_later(INTERVAL, self._deliver)
                return
        # From here on the next post asks for a delivery itself; one just before did not.
        self._expected = False
        if self._posted:
            self._expected = True
            self._loop.call_soon(self._deliver)

    def _hand_out(self) -> bool:
        """Give all that is there to its streams; returns whether there was anything."""
        anything = bool(self._posted)
        while self._posted:
            stream, event = self._posted.popleft()
            stream.feed(event)
        return anything


class EventStream:
    """The events of one request, in batches; used on the event loop only.

    Args:
        scheduler: where the request goes.
        mailbox: brings the events here.
    """

    def __init__(self, scheduler: Submitter, mailbox: Mailbox) -> None:
        self._scheduler = scheduler
        self._mailbox = mailbox
        self._loop = asyncio.get_running_loop()
        self._events: list[Event] = []
        self._waiter: asyncio.Future[None] | None = None
        self._ticket: Ticket | None = None
        self._alarm: asyncio.TimerHandle | None = None
        self._heard = 0.0
        self.gone = False
        """Whether nobody reads any more."""

    def start(self, request: Request) -> None:
        """Submit the request."""
        self._heard = self._loop.time()
        self._alarm = self._loop.call_later(SILENCE, self._tick)
        self._ticket = self._scheduler.submit(request, self._post)

    def _post(self, event: Event) -> None:
        self._mailbox.post(self, event)

    def feed(self, event: Event) -> None:
        """One event has arrived."""
        if self._ticket is None:
            return  # was under way when the request was cancelled
        self._events.append(event)
        if len(self._events) > MAX_UNREAD:
            self.fail(EngineError("server.too-slow"))
        self._wake()

    async def batch(self) -> list[Event]:
        """Everything that arrived since the last call; waits for some.

        An empty list means `SILENCE` seconds without any, or that `gone` has become true.
        """
        if not self._events and not self.gone:
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        events, self._events = self._events, []
        if events:
            self._heard = self._loop.time()
        return events

    def fail(self, error: LucieError) -> None:
        """Give the request up and tell its client why."""
        self.close()
        self._events = [Failed(error)]
        self._wake()

    def leave(self) -> None:
        """Nobody reads any more: cancel the request and end the wait."""
        self.gone = True
        self.close()
        self._events.clear()
        self._wake()

    def close(self) -> None:
        """Cancel what is still computed. Harmless when all is done."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if self._ticket is not None:
            self._scheduler.cancel(self._ticket)
            self._ticket = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _tick(self) -> None:
        # One slow timer a request; arming one for each wait would cost more than a token does.
        if self._loop.time() - self._heard >= SILENCE:
            self._heard = self._loop.time()
            self._wake()
        self._alarm = self._loop.call_later(SILENCE / 2, self._tick)
