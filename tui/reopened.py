"""A conversation of the history as entries of the transcript."""

from __future__ import annotations

from tui.dialogue import Dialogue, Turn
from tui.entries import Answer, Entry, Said
from tui.words import say

__all__ = ["entries_of"]


def entries_of(dialogue: Dialogue) -> list[Entry]:
    """Its messages; the system prompt is not among them."""
    return [_entry(turn) for turn in dialogue.turns if turn.role != "system"]


def _entry(turn: Turn) -> Entry:
    if turn.role == "user":
        return Said(turn.content)
    answer = Answer(turn.content)
    if turn.state == "stopped":
        answer.end(f"{say('chat.stopped')} {say('chat.ask-again')}", ".remark")
    elif turn.refused:
        answer.end(say("chat.refused"), ".error")
    elif turn.state == "failed":
        answer.end(f"{say('chat.failed')} {say('chat.ask-again')}", ".error")
    elif turn.state == "writing":
        answer.end(f"{say('chat.interrupted')} {say('chat.ask-again')}", ".remark")
    elif not turn.content:
        answer.end(say("chat.empty"), ".remark")
    return answer
