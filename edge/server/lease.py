"""The users of a server that lives only as long as it has some.

Each user holds one connection open. The system closes it however the user ends,
so a chat that is killed leaves no model in memory behind.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import Receive

__all__ = ["Lease"]


class Lease:
    """Counts users; used on the event loop only.

    Args:
        end: stops the server.
        unused: seconds without a user after which it ends.
        first: seconds in which the first user must come.
    """

    def __init__(self, end: Callable[[], None], unused: float, first: float) -> None:
        self._end = end
        self._unused = unused
        self._users = 0
        self._loop = asyncio.get_running_loop()
        self._closing = self._loop.create_future()
        self._timer = self._loop.call_later(first, end)

    @contextmanager
    def held(self) -> Iterator[None]:
        """One more user while the block lasts; the last one's going starts the clock."""
        self._users += 1
        self._timer.cancel()
        try:
            yield
        finally:
            self._users -= 1
            if self._users == 0:
                self._timer = self._loop.call_later(self._unused, self._end)

    async def until_gone(self, receive: Receive) -> None:
        """Wait until the user goes, or the server ends."""
        gone = asyncio.ensure_future(_disconnect(receive))
        try:
            await asyncio.wait((gone, self._closing), return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()

    def forsake(self) -> None:
        """The server is of no use: it ends as soon as its users have heard of it and gone."""
        self._unused = 0.0
        if self._users == 0:
            self._end()

    def close(self) -> None:
        """The server ends: let all users go."""
        self._timer.cancel()
        if not self._closing.done():
            self._closing.set_result(None)


async def _disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
