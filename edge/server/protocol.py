"""HTTP as uvicorn speaks it, for clients that may be slow, but not without end."""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from edge.server.body import PATIENCE_S

__all__ = ["PatientProtocol"]


class PatientProtocol(H11Protocol):
    """Closes a connection on which the head of a request does not arrive in time.

    uvicorn bounds only the pause between two requests; half a head would hold its
    place for ever (the attack is known as Slowloris).
    """

    _alarm: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Wait for a request."""
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Wait on, or no more where a head is complete."""
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._rest()
        elif self._alarm is None:
            self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing."""
        self._rest()
        super().connection_lost(exc)

    def _watch(self) -> None:
        self._alarm = self.loop.call_later(PATIENCE_S, self.transport.close)

    def _rest(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
