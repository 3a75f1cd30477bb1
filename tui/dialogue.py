"""One conversation as the chat holds it: what is on the screen, sent and kept."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from edge.client import MOST_TEXT, size_in_request
from edge.titles import title_from

if TYPE_CHECKING:
    from edge.client import Message
    from edge.history import Role, State, StoredMessage

__all__ = ["Dialogue", "Turn"]


_MESSAGE_BYTES = 64
"""What a message takes in a request beside its text."""


@dataclass(eq=False, slots=True)
class Turn:
    """One message. `id` and `kept` are the archive's: what of it is on disk."""

    role: Role
    content: str
    parent: Turn | None
    state: State = "complete"
    model: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    id: int | None = None
    kept: tuple[str, State] | None = None

    @property
    def refused(self) -> bool:
        """Whether it is an answer that the server refuses to give, however often it is asked."""
        return "refused" in self.facts


class Dialogue:
    """A conversation; `turns` is the branch that is shown, `written` all there is to keep."""

    def __init__(self, system: str | None = None) -> None:
        self.id: int | None = None
        self.home: int | None = None
        """The archive's: the file that the ids belong to."""
        self.title = ""
        self.turns: list[Turn] = []
        self.written: list[Turn] = []
        if system:
            self._add("system", system)

    @classmethod
    def stored(cls, id_: int, title: str, messages: Iterable[StoredMessage]) -> Dialogue:
        """A conversation as the history has it, oldest message first."""
        dialogue = cls()
        dialogue.id, dialogue.title = id_, title
        for message in messages:
            turn = dialogue._add(message.role, message.content)
            turn.state, turn.model, turn.facts = message.state, message.model, message.facts
            turn.id, turn.kept = message.id, (message.content, message.state)
        return dialogue

    def ask(self, text: str) -> Turn:
        """Add what the user says."""
        self.title = self.title or title_from(text)
        return self._add("user", text)

    def answer(self) -> Turn:
        """Add an answer that is about to be written."""
        turn = self._add("assistant", "")
        turn.state = "writing"
        return turn

    @property
    def retriable(self) -> bool:
        """Whether the last question has no whole answer and may be asked again."""
        return bool(self.turns) and (
            self.turns[-1].role == "user"
            or (self.turns[-1].state != "complete" and not self.turns[-1].refused)
        )

    @property
    def tokens(self) -> int | None:
        """Length of what the last answer was made of and of itself; None where not known."""
        for turn in reversed(self.turns):
            if turn.role == "assistant" and not turn.refused:
                facts = turn.facts
                prompt, answer = facts.get("prompt_tokens"), facts.get("completion_tokens")
                # The file may say anything.
                if isinstance(prompt, int) and isinstance(answer, int):
                    return prompt + answer
                return None
        return 0

    def retry(self) -> bool:
        """Take back the last, broken answer; whether there was one.

        It stays in the history, beside the next one.
        """
        broken = self.turns[-1].role == "assistant"
        if broken:
            self.turns.pop()
        return broken

    def to_send(self, *, alone: bool = False) -> list[Message]:
        """The messages for the model: every question with what was answered.

        `alone`: without the questions right before the last one that have no answer.

        What was refused would be refused again, and is left out. Chat templates want the
        roles in turn, so questions without an answer between them are sent as one. Of more
        than a request holds, which no window holds either, the oldest is left out.
        """
        left_out = self._unanswered() if alone else []
        messages: list[Message] = []
        for turn, following in zip(self.turns, [*self.turns[1:], None], strict=True):
            if turn.refused or (following is not None and following.refused):
                continue
            if turn in left_out:
                continue
            if size_in_request(turn.content) > MOST_TEXT:  # of a history that others wrote
                continue
            if messages and messages[-1]["role"] == turn.role:
                messages[-1]["content"] += f"\n\n{turn.content}"
            elif turn.content:
                messages.append({"role": turn.role, "content": turn.content})
        return _latest(messages)

    def _unanswered(self) -> list[Turn]:
        """The questions right before the last one that have no word of an answer."""
        found: list[Turn] = []
        for turn in reversed(self.turns[:-1]):
            if turn.role == "user":
                found.append(turn)
            elif turn.content:
                break
        return found

    def forget_ids(self) -> None:
        """What was kept is there no more: keep all of it anew."""
        self.id = None
        for turn in self.written:
            turn.id = turn.kept = None

    def _add(self, role: Role, content: str) -> Turn:
        turn = Turn(role, content, self.turns[-1] if self.turns else None)
        self.turns.append(turn)
        self.written.append(turn)
        return turn


def _latest(messages: list[Message]) -> list[Message]:
    """As many of the latest as a request holds; a system prompt stays."""
    first = [message for message in messages[:1] if message["role"] == "system"]
    rest = messages[len(first) :]
    room = MOST_TEXT - sum(map(_size, first))
    sizes = list(map(_size, rest))
    while len(rest) > 1 and (sum(sizes) > room or rest[0]["role"] != "user"):
        del rest[0], sizes[0]
    return first + rest


def _size(message: Message) -> int:
    return size_in_request(message["content"]) + _MESSAGE_BYTES
