"""Keeping what is said, and telling when that fails; the conversation goes on all the same."""

from __future__ import annotations

from collections.abc import Callable

from edge.errors import HistoryError
from tui.archive import Archive
from tui.dialogue import Dialogue
from tui.words import number, say

__all__ = ["Keeping"]


class Keeping:
    """Writes to an archive and tells what a person must know of it.

    Args:
        archive: where conversations are kept.
        tell: shows a text in a style of the transcript.
    """

    def __init__(self, archive: Archive, tell: Callable[[str, str], None]) -> None:
        self.archive = archive
        self.failed = False
        """Whether what is on the screen is not on disk."""
        self._tell = tell

    async def last(self, *, wanted: bool) -> Dialogue | None:
        """Open the archive, so that its state is told at once; the last dialogue if `wanted`."""
        try:
            conversations = await self.archive.conversations()
            if wanted and conversations:
                return await self.archive.load(conversations[0])
        except HistoryError as error:
            self._fail(error)
        finally:
            self._tell_salvage()
        return None

    async def keep(self, dialogue: Dialogue) -> None:
        """Write what is new."""
        try:
            await self.archive.keep(dialogue)
        except HistoryError as error:
            self._fail(error)
        else:
            if self.failed:
                self.failed = False
                self._tell(say("chat.saved-again"), ".remark")
        self._tell_salvage()

    def _fail(self, error: HistoryError) -> None:
        if not self.failed:
            self.failed = True
            self._tell(say("chat.not-saved", why=error), ".error")

    def _tell_salvage(self) -> None:
        salvage, self.archive.salvage = self.archive.salvage, None
        if salvage is not None:
            facts = {
                "messages": number(salvage.messages),
                "conversations": number(salvage.conversations),
                "path": salvage.set_aside,
            }
            self._tell(say("chat.salvaged", **facts), ".error")
