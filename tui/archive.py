"""The history on disk, for a screen that must not wait for a disk.

SQLite waits for the card to have written (an SD card takes a second now and then),
so one thread of its own does all of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from edge.claims import Claim
from edge.errors import HistoryError
from tui.dialogue import Dialogue, Turn

if TYPE_CHECKING:
    from edge.history import Conversation, History, State
    from edge.salvage import Salvage

__all__ = ["Archive"]

T = TypeVar("T")
Snapshot: TypeAlias = "tuple[Turn, str, State]"


class Archive:
    """Opens the history when it is first needed, and again after an error.

    The conversation that is written to is claimed: no other chat opens it meanwhile.
    Every method raises `HistoryError`; the next call tries afresh.
    """

    def __init__(self, path: Path) -> None:
        self.salvage: Salvage | None = None
        """Set when the file was found damaged; for the screen to tell and clear."""
        self.unwritable: HistoryError | None = None
        """Set when the file could only be read; for the screen to tell."""
        self._path = path
        self._file = 0
        """Which file ids belong to, as a running number: one that is lost is replaced."""
        self._history: History | None = None
        self._claim = Claim(path.with_name(f"{path.name}.open"))
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="history")

    async def keep(self, dialogue: Dialogue) -> bool:
        """Write what is new in `dialogue`, nothing that was kept before; whether there was any."""
        news = _news(dialogue)  # taken now: the answer grows while it is being written down
        if news and any(turn.role == "user" for turn in dialogue.written):
            await self._run(lambda history: self._keep(history, dialogue, news))
            return True
        return False

    async def conversations(self) -> list[Conversation]:
        """All conversations, the one spoken in last first."""
        return await self._run(lambda history: history.conversations(), reading=True)

    async def load(self, conversation: Conversation) -> Dialogue:
        """A conversation, to be read and continued.

        Raises:
            HistoryError: also `history.elsewhere`, when another chat has it open.
        """

        def read(history: History) -> Dialogue:
            before = self._claim.held
            if not self._claim.take(conversation.id):
                raise HistoryError("history.elsewhere")
            try:
                messages = history.load(conversation.id)
            except HistoryError:
                if before is not None:
                    self._claim.take(before)
                raise
            dialogue = Dialogue.stored(conversation.id, conversation.title, messages)
            dialogue.home = self._file
            return dialogue

        return await self._run(read, reading=True)

    async def let_go(self) -> None:
        """Whatever was open may be opened elsewhere."""
        await asyncio.wrap_future(self._thread.submit(self._claim.release))

    async def rename(self, conversation: int, title: str) -> None:
        """Give a conversation another title."""
        await self._run(lambda history: history.rename(conversation, title))

    async def delete(self, conversation: int) -> None:
        """Delete a conversation.

        Raises:
            HistoryError: also `history.elsewhere`, when another chat has it open.
        """

        def delete(history: History) -> None:
            if self._claim.elsewhere(conversation):
                raise HistoryError("history.elsewhere")
            history.delete(conversation)

        await self._run(delete)

    async def aclose(self) -> None:
        """Close the file, after all that is still being written."""
        await asyncio.wrap_future(self._thread.submit(self._close))
        self._thread.shutdown()

    async def _run(self, work: Callable[[History], T], *, reading: bool = False) -> T:
        return await asyncio.wrap_future(self._thread.submit(self._work, work, reading))

    def _work(self, work: Callable[[History], T], reading: bool) -> T:
        try:
            history = self._open()
        except HistoryError as error:
            if reading and error.code in ("history.read-only", "history.full"):
                return self._only_read(work, error)
            raise
        try:
            return work(history)
        except HistoryError as error:
            if error.code not in ("history.gone", "history.elsewhere"):
                self._drop()
            raise

    def _open(self) -> History:
        """The open file, if it is still the one at its place."""
        if self._history is not None and not self._history.in_place():
            self._drop()
            self._file += 1
        if self._history is None:
            from edge.history import History

            self._history = History.open(self._path)
            self.salvage = self._history.salvage
            self._file += self.salvage is not None
            self.unwritable = None
        return self._history

    def _only_read(self, work: Callable[[History], T], error: HistoryError) -> T:
        """What can be had of a file that cannot be written, or beside which there is no room."""
        from edge.history import History

        try:
            history = History.open_to_read(self._path)
        except HistoryError:
            raise error from None
        self.unwritable = error
        try:
            return work(history)
        finally:
            history.close()

    def _keep(self, history: History, dialogue: Dialogue, news: Sequence[Snapshot]) -> None:
        if dialogue.home not in (None, self._file):
            # Ids of another file may mean something else in this one.
            dialogue.forget_ids()
            news = _news(dialogue)
        dialogue.home = self._file
        try:
            _write(history, self._claim, dialogue, news)
        except HistoryError as error:
            if error.code != "history.gone":
                raise
            # Deleted by another chat, while it goes on in this one: it begins anew.
            dialogue.forget_ids()
            _write(history, self._claim, dialogue, _news(dialogue))

    def _drop(self) -> None:
        if self._history is not None:
            self._history.close()
            self._history = None

    def _close(self) -> None:
        self._drop()
        self._claim.close()


def _write(history: History, claim: Claim, dialogue: Dialogue, news: Sequence[Snapshot]) -> None:
    if dialogue.id is None:
        dialogue.id = history.create()
        claim.take(dialogue.id)  # before it has a message, and so before others see it
    for turn, content, state in news:
        if turn.id is None:
            turn.id = history.append(
                dialogue.id,
                turn.role,
                content,
                parent=turn.parent.id if turn.parent else None,
                state=state,
                model=turn.model,
                facts=turn.facts,
            )
        else:
            history.write(turn.id, content, state, turn.facts, turn.model)
        turn.kept = content, state


def _news(dialogue: Dialogue) -> list[Snapshot]:
    return [
        (turn, turn.content, turn.state)
        for turn in dialogue.written
        if turn.kept != (turn.content, turn.state)
    ]
