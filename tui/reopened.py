"""A conversation of the history as entries of the transcript."""

from __future__ import annotations

from edge.messages import text
from tui.dialogue import Dialogue, Turn
from tui.entries import Answer, Entry, Said
from tui.words import say

__all__ = ["entries_of"]


def entries_of(dialogue: Dialogue) -> list[Entry]:
    """Its messages; the system prompt is not among them."""
    last = dialogue.turns[-1] if dialogue.turns else None
    return [_entry(turn, turn is last) for turn in dialogue.turns if turn.role != "system"]


def _entry(turn: Turn, last: bool) -> Entry:
    """What is shown of a turn; that a question can be asked again is said of the last one only."""
    if turn.role == "user":
        return Said(turn.content)
    answer = Answer(turn.content)
    again = f" {say('chat.ask-again')}" if last else ""
    if turn.state == "stopped":
        answer.end(text("talk.stopped") + again, ".remark")
    elif turn.refused:
        answer.end(say("chat.refused"), ".error")
    elif turn.state == "failed":
        answer.end(say("chat.failed") + again, ".error")
    elif turn.state == "writing":
        answer.end(say("chat.interrupted") + again, ".remark")
    elif not turn.content:
        answer.end(text("talk.empty"), ".remark")
    return answer
