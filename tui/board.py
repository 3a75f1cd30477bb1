"""What a machine that others look after adds to the chat: what it tells, offers and opens."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from edge.errors import LucieError
from tui.words import say

if TYPE_CHECKING:
    from textual.app import App

    from tui.network import Network
    from tui.notices import Notices
    from tui.offers import Offers

__all__ = ["Board", "Tell"]

_EVERY_S = 2.0
"""How often it is looked for what is new."""

Tell = Callable[[str, str], None]
"""Shows a text in a style of the transcript."""


class Board:
    """A machine that shows nothing but the chat; of each there may be none.

    Args:
        notices: what those who look after it tell; they follow what is reopened.
        offers: what they offer to use instead.
        network: that a class joins, where this machine opens one.
    """

    def __init__(
        self,
        *,
        notices: Notices | None = None,
        offers: Offers | None = None,
        network: Network | None = None,
    ) -> None:
        self._notices = notices
        self._offers = offers
        self._network = network
        self._offering = False

    @property
    def texts(self) -> Sequence[str]:
        """Of the notices, as it was last looked."""
        return self._notices.texts if self._notices is not None else ()

    @property
    def keys(self) -> list[tuple[str, str]]:
        """What more there is to press, and what for."""
        return [
            *([("F4", say("status.offered"))] if self._offering else []),
            *([("F3", say("status.join"))] if self._network is not None else []),
        ]

    async def heed(self, tell: Tell, keys_changed: Callable[[], None]) -> None:
        """Tell what is new of the notices, for ever; once, that they cannot be read.

        Args:
            keys_changed: called when there is more, or less, to press.
        """
        failed = False
        while self._notices is not None or self._offers is not None:
            await asyncio.sleep(_EVERY_S)
            if self._offers is not None:
                offering = bool(await asyncio.to_thread(self._offers.all))
                if offering != self._offering:
                    self._offering = offering
                    keys_changed()
            if self._notices is None:
                continue
            try:
                found = await asyncio.to_thread(self._notices.look)
            except LucieError as error:
                if not failed:
                    tell(str(error), ".error")
                failed = True
                continue
            failed = False
            for notice in found:
                tell(notice, ".notice")

    def join(self, app: App[Any]) -> None:
        """Show how a class joins."""
        if self._network is not None:
            from tui.joining import Joining

            app.clear_notifications()  # they would cover it
            app.push_screen(Joining(self._network))

    def offer(self, app: App[Any], tell: Tell) -> None:
        """Show what is offered, and write down what is chosen."""
        offers = self._offers
        if offers is None:
            return
        from tui.offered import Offered

        def choose(name: str | None) -> None:
            if name is not None:
                try:
                    offers.choose(name)
                except LucieError as error:
                    tell(str(error), ".error")
                else:
                    tell(say("offered.chosen"), ".notice")

        app.clear_notifications()
        app.push_screen(Offered(offers.all()), choose)
