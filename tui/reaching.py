"""Reaching for the server before anything is asked of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from edge.errors import LucieError
from tui.source import Source
from tui.status import StatusLine, described, starting
from tui.words import say

if TYPE_CHECKING:
    from edge.client import Starting

__all__ = ["Reaching"]


class Reaching:
    """Tells on the status line how it gets on, and once that there is no server.

    Args:
        source: where the server is.
        line: the status line.
        idle: whether that is ours; an answer that waits for the same server writes to it, too.
        tell: takes what is told, and its style.
        tries: how often until it is told.
    """

    def __init__(
        self,
        source: Source,
        line: StatusLine,
        idle: Callable[[], bool],
        tell: Callable[[str, str], None],
        tries: int,
    ) -> None:
        self._source = source
        self._line = line
        self._idle = idle
        self._tell = tell
        self._left = tries

    async def reach(self) -> None:
        """Once."""
        self._left -= 1
        try:
            await self._source.connect(self._report)
        except LucieError as error:
            if error.code == "server.no-such-model":  # no other will come
                self._left = min(self._left, 0)
            if self._idle():
                self._failed(error)
            return
        self._left = 0  # from now on its answers tell
        if self._source.info is not None and self._idle():
            ready = replace(self._line.status, state=say("status.ready"), mood="ready")
            self._line.status = described(ready, self._source.info)

    def _report(self, now: Starting) -> None:
        self._line.status = starting(self._line.status, now)

    def _failed(self, error: LucieError) -> None:
        status = self._line.status
        if self._left > 0:
            self._line.status = replace(status, state=say("status.connecting"), mood="busy")
        else:
            self._line.status = replace(status, state=say("status.unreachable"), mood="fault")
        if self._left == 0:
            self._tell(str(error), ".error")
