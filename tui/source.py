"""Where answers come from: a server, reached when it is first needed and again after it died."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING

from edge.errors import EngineError, LucieError, ServerError

if TYPE_CHECKING:
    from edge.client import Client, Connector, Message, ModelInfo, Reply, Starting

__all__ = ["Source"]


class Source:
    """One connection at a time, made by a connector.

    Args:
        make: makes the connector; called in a thread, as it may import what takes long.
    """

    def __init__(self, make: Callable[[], Connector]) -> None:
        self.info: ModelInfo | None = None
        """What the server runs, once it has been reached."""
        self._make = make
        self._connector: Connector | None = None
        self._client: Client | None = None
        self._connecting: asyncio.Task[Client] | None = None
        self._report: Callable[[Starting], None] | None = None

    @property
    def connected(self) -> bool:
        """Whether a server has been reached and has not failed since."""
        return self._client is not None

    @property
    def idle(self) -> bool:
        """Whether there is no server, and nobody is reaching for one."""
        return self._client is None and self._connecting is None

    async def connect(self, report: Callable[[Starting], None]) -> Client:
        """The client of a live server; starts or reaches one if there is none.

        A cancelled call leaves the server starting, for the next one. While several
        wait, the last one's `report` is called.

        Raises:
            LucieError: there is none to be had.
        """
        self._report = report
        if self._client is not None:
            if await self._client.alive():
                return self._client
            await self._let_go()  # it died while nobody asked anything
        if self._connecting is None:
            self._connecting = asyncio.create_task(self._connect())
            self._connecting.add_done_callback(self._connected)
        return await asyncio.shield(self._connecting)

    async def replies(
        self, messages: Sequence[Message], report: Callable[[Starting], None]
    ) -> AsyncGenerator[Reply, None]:
        """Stream one answer. A server that fails is let go, so the next call starts afresh.

        One that is only busy is kept.

        Raises:
            LucieError: no server, or no answer from it.
        """
        client = await self.connect(report)
        try:
            async with aclosing(client.chat(messages)) as replies:
                async for reply in replies:
                    yield reply
        except (EngineError, ServerError) as error:
            if self._client is client and not _is_busy(error):
                await self._let_go()
            raise

    async def aclose(self) -> None:
        """Let go of the server; one that was started here ends."""
        if self._connecting is not None:
            self._connecting.cancel()
            with suppress(asyncio.CancelledError, LucieError):
                await self._connecting
        await self._let_go()
        if self._connector is not None:
            await self._connector.aclose()

    async def _let_go(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def _connect(self) -> Client:
        if self._connector is None:
            self._connector = await asyncio.to_thread(self._make)
        client = await self._connector.connect(self._starting)
        try:
            self.info = await client.info()
        except BaseException:
            await client.aclose()
            raise
        self._client = client
        return client

    def _connected(self, task: asyncio.Task[Client]) -> None:
        self._connecting = None
        if not task.cancelled():
            task.exception()  # whoever waits gets it; nobody may be waiting any more

    def _starting(self, report: Starting) -> None:
        if self._report is not None:
            self._report(report)


def _is_busy(error: LucieError) -> bool:
    """Whether the server has too much in hand, and may be asked again (HTTP 429)."""
    return error.code == "server.busy" or error.facts.get("status") == 429
