"""One answer on its way from the server to the screen."""

from __future__ import annotations

import asyncio
import re
from contextlib import aclosing
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from edge.client import Delta, Done, Notice, Progress, Queued, Reply, Starting
from edge.errors import LucieError, UsageError
from edge.messages import text
from tui.dialogue import Dialogue, Turn
from tui.entries import Answer, Remark
from tui.pace import Pace
from tui.source import Source
from tui.status import Status, StatusLine, described, starting
from tui.transcript import Transcript
from tui.words import number, say

if TYPE_CHECKING:
    from edge.client import Message

__all__ = ["Answering"]

_CODE = re.compile(r"[a-z-]+\.[a-z-]+")
_TOO_LONG = ("engine.prompt-too-long", "prompt.context-full", "server.prompt-too-long")


class Answering:
    """Fills one turn of a dialogue, its entry in the transcript, and the status line."""

    def __init__(
        self, source: Source, dialogue: Dialogue, transcript: Transcript, status_line: StatusLine
    ) -> None:
        self._source = source
        self._transcript = transcript
        self._status_line = status_line
        self._messages = dialogue.to_send()
        self._alone = dialogue.to_send(alone=True)
        self.question = dialogue.turns[-1].content
        self.turn: Turn = dialogue.answer()
        self._pace = Pace()
        self.entry = Answer()
        self.entry.doing(text("talk.thinking"))
        transcript.add(self.entry)

    async def run(self) -> None:
        """Until the answer is complete, has failed, or the task is cancelled: the user's stop."""
        self._status_line.status = replace(self._status_line.status, speed=None)
        self._busy("status.waiting")
        try:
            await self._receive()
            if self.turn.state == "writing":
                self._fail(LucieError("chat.cut-off"))
        except LucieError as error:
            self._fail(error)
        except asyncio.CancelledError:
            self.stop()
            raise

    async def _receive(self) -> None:
        """All of the answer; if what was stopped before makes the question too long, without it."""
        try:
            await self._receive_to(self._messages)
        except UsageError as error:
            if error.code not in _TOO_LONG or self._alone == self._messages:
                raise
            remark = Remark(say("chat.unanswered-left-out"), ".remark")
            self._transcript.add(remark, before=self.entry)
            await self._receive_to(self._alone)

    async def _receive_to(self, messages: list[Message]) -> None:
        async with aclosing(self._source.replies(messages, self._starting)) as replies:
            async for reply in replies:
                self._take(reply)

    def stop(self) -> None:
        """No more is wanted; what there is stays. Harmless when the answer has ended."""
        if self.turn.state == "writing":
            self.turn.state = "stopped"
            self._count()
            self._end(f"{text('talk.stopped')} {say('chat.ask-again')}", ".remark")

    def _fail(self, error: LucieError) -> None:
        self.turn.state = "failed"
        self._count()
        if isinstance(error, UsageError):
            self.turn.facts = {"refused": error.code}
            self._end(str(error), ".error")
        else:
            self._end(f"{error}\n{say('chat.ask-again')}", ".error")

    def _take(self, reply: Reply) -> None:
        match reply:
            case Queued(ahead):
                self.entry.doing(text("talk.queue", ahead=number(ahead)))
                self._transcript.changed()
            case Progress():
                self._reading(reply)
            case Delta(words, tokens):
                if not self.turn.content:
                    self.turn.model = self._source.info.name if self._source.info else None
                    self._busy("status.writing")
                self.turn.content += words
                self._transcript.write(self.entry, words)
                if tokens is not None and self._pace.due(tokens):
                    self._show(self._pace.told(self._status_line.status))
            case Notice(code, facts):
                self._transcript.add(Remark(_notice(code, facts), ".remark"), before=self.entry)
            case Done():
                self._done(reply)

    def _starting(self, report: Starting) -> None:
        what = say("chat.queued", what=say(f"chat.{report.stage}"))
        self.entry.doing(what, report.fraction)
        self._transcript.changed()
        self._show(starting(self._status_line.status, report))

    def _reading(self, progress: Progress) -> None:
        self._pace.prompt = progress.total
        done, total = number(progress.done), number(progress.total)
        fraction = progress.done / progress.total if progress.total else None
        self.entry.doing(say("chat.reading"), fraction, f"{done} / {total}")
        self._transcript.changed()
        state = say("status.reading", done=done, total=total)
        self._show(replace(self._status_line.status, state=state, mood="busy", used=progress.total))

    def _done(self, done: Done) -> None:
        self.turn.facts = {key: value for key, value in asdict(done).items() if value is not None}
        self.turn.state = "complete"
        status = self._status_line.status
        if done.prompt_tokens is not None and done.completion_tokens is not None:
            status = replace(status, used=done.prompt_tokens + done.completion_tokens)
        if done.completion_tokens and done.predicted_ms:
            status = replace(status, speed=done.completion_tokens / done.predicted_ms * 1000)
        if done.memory_bytes is not None:
            status = replace(status, memory=done.memory_bytes)
        self._show(status)
        self._end(_note(done.reason) if self.turn.content else text("talk.empty"), ".remark")

    def _count(self) -> None:
        """An answer that is broken off counts as far as it came."""
        if self._pace.tokens:
            self.turn.facts = {
                "prompt_tokens": self._pace.prompt,
                "completion_tokens": self._pace.tokens,
            }
            self._show(self._pace.told(self._status_line.status))

    def _end(self, note: str, style: str) -> None:
        self.entry.end(note, style)
        self._transcript.changed(now=True)
        self._rest()

    def _busy(self, code: str) -> None:
        self._show(replace(self._told(), state=say(code), mood="busy"))

    def _rest(self) -> None:
        if self._source.connected:
            self._show(replace(self._told(), state=say("status.ready"), mood="ready"))
        else:
            gone = replace(self._told(), memory=None)
            self._show(replace(gone, state=say("status.unreachable"), mood="fault"))

    def _told(self) -> Status:
        """The status with what the server told of itself."""
        status = self._status_line.status
        return status if self._source.info is None else described(status, self._source.info)

    def _show(self, status: Status) -> None:
        self._status_line.status = status


def _note(reason: str) -> str:
    """What is said of an answer that ended for such a reason."""
    if reason == "length":
        return text("talk.length")
    return say("chat.filtered") if reason == "content_filter" else ""


def _notice(code: str, facts: dict[str, Any]) -> str:
    """A server's notice in our words; its bare code where a later server has one more."""
    if _CODE.fullmatch(code):
        try:
            return text(code, **facts)
        except (KeyError, FileNotFoundError):
            pass
    return code
