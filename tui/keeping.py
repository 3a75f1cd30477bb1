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
        self.asked = False
        """Whether the user was asked about leaving what is not on disk, and has said no more."""
        self._tell = tell

    async def open(self, show: Callable[[Dialogue], None] | None) -> None:
        """Open the archive and tell its state.

        Args:
            show: shows the last conversation, where it is wanted.
        """
        try:
            conversations = await self.archive.conversations()
            if show is not None and conversations:
                show(await self.archive.load(conversations[0]))
        except HistoryError as error:
            if error.code == "history.elsewhere":
                self._tell(say("chat.open-elsewhere"), ".remark")
            else:
                self._fail(error)
        self._tell_salvage()
        if self.archive.unwritable is not None:
            self._fail(self.archive.unwritable)

    async def keep(self, dialogue: Dialogue) -> None:
        """Write what is new."""
        try:
            written = await self.archive.keep(dialogue)
        except HistoryError as error:
            self._fail(error)
        else:
            if self.failed and written:
                self.failed = False
                self._tell(say("chat.saved-again"), ".remark")
        self._tell_salvage()

    async def may_leave(self, dialogue: Dialogue) -> bool:
        """Write what is new; False where that fails and the user is asked, which is done once."""
        try:
            await self.archive.keep(dialogue)
        except HistoryError as error:
            if not self.asked:
                self.failed = self.asked = True
                self._tell(say("chat.leave-unsaved", why=error), ".error")
                return False
        self.failed = False  # of what comes next, nothing is lost yet
        return True

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
            code = "chat.salvaged" if salvage.messages else "chat.nothing-salvaged"
            self._tell(say(code, **facts), ".error")
