"""The main screen: one conversation, and who tells whom what.

    Prompt ── Submitted ──▶ ChatScreen ── a worker an answer ──▶ Source ──▶ server
                             │  ▲                                 │
       Transcript, status ◀──┘  └──────────── replies ◀───────────┘
                             └──▶ Archive (a thread) ──▶ history

No widget computes answers, speaks HTTP or waits for a disk.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.screen import Screen
from textual.widgets import Static
from textual.worker import Worker, WorkerError

from edge.errors import HistoryError
from edge.messages import text
from tui.archive import Archive
from tui.board import Board
from tui.dialogue import Dialogue
from tui.entries import Answer, Entry, Remark, Said
from tui.hints import hints
from tui.keeping import Keeping
from tui.prompt import Prompt
from tui.reaching import Reaching
from tui.reopened import entries_of
from tui.sizes import fit
from tui.source import Source
from tui.status import KeyLine, Status, StatusLine
from tui.transcript import Transcript
from tui.untrusted import visible
from tui.words import number, say

if TYPE_CHECKING:
    from textual.app import ComposeResult
    from textual.events import Resize
    from textual.timer import Timer

    from edge.client import ModelInfo
    from edge.history import Conversation
    from tui.about import About
    from tui.answering import Answering

__all__ = ["ChatScreen", "Describe"]

_CHECKPOINT_S = 2.0
"""A pulled plug loses at most this much of an answer."""

Describe = Callable[["ModelInfo"], Sequence[tuple[str, str]]]
"""What is known of a model, as labels and values; may read files."""


class ChatScreen(Screen[None]):
    """One conversation; the others are in the archive.

    Args:
        source: where answers come from.
        archive: where conversations are kept.
        describe: for the screen about the model.
        system: the system prompt of new conversations.
        resume: go on with the last conversation.
        url: the server, where it is not one of this machine's own.
        again_s: how often to reach for a server that somebody else runs and starts again, in
            seconds; None: ours, which is started when something is asked.
        tries: how often it is reached for until it is told that none is there.
        board: what the machine adds, where others look after it.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "stop", show=False),
        Binding("ctrl+n", "new", show=False),
        Binding("ctrl+l,f2", "list", show=False),
        Binding("ctrl+r", "again", show=False),
        Binding("f1", "about", show=False),
        Binding("f3", "join", show=False),
        Binding("f4", "offered", show=False),
    ]

    def __init__(
        self,
        source: Source,
        archive: Archive,
        describe: Describe,
        *,
        system: str | None = None,
        resume: bool = False,
        url: str | None = None,
        again_s: float | None = None,
        tries: int = 1,
        board: Board | None = None,
    ) -> None:
        super().__init__()
        self.dialogue = Dialogue(system)
        self.heading = Static(id="title", markup=False)
        self.transcript = Transcript()
        self.prompt = Prompt()
        self.status_line = StatusLine()
        self.key_line = KeyLine(id="keys")
        self._source = source
        self._archive = archive
        self._keeping = Keeping(archive, self._tell)
        self._reaching = Reaching(source, self.status_line, self._idle, self._tell, tries)
        self._describe = describe
        self._system = system
        self._url = url
        self._again_s = again_s
        self._board = board or Board()
        self._resuming = resume
        self.prompt.free = not resume
        self._begun = False
        self._about: About | None = None
        self._answering: Answering | None = None
        self._worker: Worker[None] | None = None
        self._checkpoints: Timer | None = None
        self.lost: HistoryError | None = None
        """Why the last of it could not be saved."""

    def compose(self) -> ComposeResult:
        """The areas, from top to bottom."""
        yield self.heading
        yield self.transcript
        yield self.prompt
        yield self.status_line
        yield self.key_line

    def on_mount(self) -> None:
        """Show the empty conversation; all that takes time comes after the first frame."""
        self._checkpoints = self.set_interval(_CHECKPOINT_S, self._checkpoint, pause=True)
        self.status_line.status = Status(say("status.connecting"), mood="busy")
        self._show(self.dialogue)
        self.call_after_refresh(self._begin)

    def on_resize(self, event: Resize) -> None:
        """Fit a small screen."""
        fit(self, event.size)

    def on_screen_suspend(self) -> None:
        """Another screen covers this one, maybe before its first frame, which then never comes."""
        self._begin()

    def _begin(self) -> None:
        if self._begun:
            return
        self._begun = True
        self.run_worker(self._open(), group="history")
        self.run_worker(self._connect(), group="connect")
        if self._again_s is not None:
            self.set_interval(self._again_s, self._reach_again)
        self.run_worker(self._board.heed(self._tell, self._update_lines), group="notices")

    async def may_leave(self) -> bool:
        """Stop and save; False where that fails and the user is asked."""
        self.action_stop()
        before = self.status_line.status
        self.status_line.status = replace(before, state=say("status.saving"), mood="busy")
        may = await self._keeping.may_leave(self.dialogue)
        self.status_line.status = before
        self._update_lines()
        return may

    async def finish(self) -> None:
        """Stop, save, and let go of server and history; `lost` tells if that failed."""
        self.action_stop()
        if self._worker is not None:
            with suppress(WorkerError):
                await self._worker.wait()
        try:
            await self._archive.keep(self.dialogue)
        except HistoryError as error:
            self.lost = error
        await self._source.aclose()
        await self._archive.aclose()

    # --- talking

    def on_prompt_submitted(self, event: Prompt.Submitted) -> None:
        """Send what the user typed."""
        self._keeping.asked = False
        self.dialogue.ask(event.text)
        self.transcript.add(Said(event.text))
        self._begin_answer()

    def on_prompt_too_early(self) -> None:
        """Say why nothing is sent now."""
        self.notify(say("chat.opening" if self._resuming else "chat.busy"), markup=False)

    def on_prompt_too_long(self, event: Prompt.TooLong) -> None:
        """Say that it cannot be sent; what was typed stays."""
        self.notify(say("chat.too-long", count=number(event.characters)), markup=False)

    def _begin_answer(self) -> None:
        from tui.answering import Answering

        answering = Answering(self._source, self.dialogue, self.transcript, self.status_line)
        self._answering = answering
        self.prompt.free = False
        self._worker = self.run_worker(self._answer(answering), group="answer")
        self._keep_soon()
        if self._checkpoints is not None:
            self._checkpoints.resume()
        self._update_lines()

    async def _answer(self, answering: Answering) -> None:
        try:
            await answering.run()
        finally:
            self._answered(answering)

    def _answered(self, answering: Answering) -> None:
        if self._answering is answering:
            self._answering = None
            self.prompt.free = True
            if answering.turn.refused and not self.prompt.text:
                self.prompt.put(answering.question)
            if self._checkpoints is not None:
                self._checkpoints.pause()
            self._keep_soon()
            self._update_lines()

    def _idle(self) -> bool:
        return self._answering is None

    def _reach_again(self) -> None:
        if self._idle() and self._source.idle:
            self.run_worker(self._connect(), group="connect")

    async def _connect(self) -> None:
        await self._reaching.reach()
        if self._about is not None and self._source.info is not None:
            self._about.tell(self._source.info)

    # --- keeping

    async def _open(self) -> None:
        await self._keeping.open(self._show if self._resuming else None)
        self._resuming = False
        self.prompt.free = self._answering is None

    def _keep_soon(self) -> None:
        self.run_worker(self._keeping.keep(self.dialogue), group="history")

    def _checkpoint(self) -> None:
        if not self._keeping.failed:
            self._keep_soon()

    # --- showing

    def _show(self, dialogue: Dialogue) -> None:
        self.dialogue = dialogue
        where = say("chat.remote", url=self._url) if self._url else say("chat.local")
        welcome: list[Entry] = [Remark(f"{text('about.ai')}\n{where}", ".welcome")]
        told: list[Entry] = [Remark(notice, ".notice") for notice in self._board.texts]
        self.transcript.show(welcome + entries_of(dialogue) + told)
        status = self.status_line.status
        self.status_line.status = replace(status, used=dialogue.tokens, speed=None)
        self._update_lines()

    def _tell(self, text: str, style: str) -> None:
        answering = self._answering
        self.transcript.add(Remark(text, style), before=answering.entry if answering else None)
        self._update_lines()

    def _update_lines(self) -> None:
        title = visible(self.dialogue.title) or say("chat.new")
        self.heading.update(say("chat.unsaved", title=title) if self._keeping.failed else title)
        self.key_line.keys = hints(
            self.dialogue, answering=self._answering is not None, more=self._board.keys
        )

    # --- keys

    def action_scroll(self, pages: int) -> None:
        """Scroll the transcript; the focus stays in the prompt."""
        lines = pages * max(1, self.transcript.size.height - 2)
        self.transcript.scroll_relative(y=lines, animate=False)

    def action_stop(self) -> None:
        """Stop the answer at once; the server hears of it as its stream closes."""
        if self._answering is not None and self._worker is not None:
            self._worker.cancel()
            self._answering.stop()
            self._answered(self._answering)

    def interrupt(self) -> bool:
        """Ctrl-C: stop the answer, or else drop what is typed; whether there was any of it."""
        if self._answering is not None:
            self.action_stop()
            return True
        if self.prompt.text:
            self.prompt.clear()  # Ctrl-Z brings it back
            return True
        return False

    def action_again(self) -> None:
        """Ask the last question again, if its answer broke off."""
        if self._answering is None and self.dialogue.retriable:
            if self.dialogue.retry():
                answers = [e for e in self.transcript.entries if isinstance(e, Answer)]
                self.transcript.take_out(answers[-1])
            self._begin_answer()

    async def action_new(self) -> None:
        """Begin a new conversation."""
        self.action_stop()
        if await self._keeping.may_leave(self.dialogue):
            self._show(Dialogue(self._system))
            await self._archive.let_go()
        self._update_lines()

    def action_list(self) -> None:
        """Show all conversations."""
        from tui.conversations import ConversationList

        self.app.clear_notifications()  # they would cover it
        screen = ConversationList(
            self._archive.conversations,
            self._rename,
            self._delete,
            elsewhere=self._url is not None,
        )
        self.app.push_screen(screen, self._reopen)

    async def _rename(self, conversation: Conversation, title: str) -> None:
        await self._archive.rename(conversation.id, title)
        if conversation.id == self.dialogue.id:
            self.dialogue.title = title
            self._update_lines()

    async def _delete(self, conversation: Conversation) -> None:
        from edge.kvstore import forget

        if conversation.id == self.dialogue.id:
            # First, so that nothing of it is written any more.
            self._show(Dialogue(self._system))
            self.action_stop()
        await asyncio.to_thread(forget)
        await self._archive.delete(conversation.id)

    async def _reopen(self, conversation: Conversation | None) -> None:
        if conversation is None or conversation.id == self.dialogue.id:
            return
        self.action_stop()
        if not await self._keeping.may_leave(self.dialogue):
            self._update_lines()
            return
        try:
            self._show(await self._archive.load(conversation))
        except HistoryError as error:
            self._tell(str(error), ".error")

    def action_join(self) -> None:
        """Show how a class joins, where there is a network for it."""
        self._board.join(self.app)

    def action_about(self) -> None:
        """Show what is known of the model."""
        from tui.about import About

        self.app.clear_notifications()
        self._about = About(self._source.info, self._describe)
        self.app.push_screen(self._about)

    def action_offered(self) -> None:
        """Show what is offered to use instead."""
        self._board.offer(self.app, self._tell)
