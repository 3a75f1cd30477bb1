"""Which keys are named below the conversation: those that do something now, the most wanted first.

`tui/status.py` draws as many as there is room for.
"""

from __future__ import annotations

from collections.abc import Sequence

from tui.dialogue import Dialogue
from tui.words import say

__all__ = ["Key", "hints"]

Key = tuple[str, str]
"""What is on it, and what it does."""


def hints(dialogue: Dialogue, *, answering: bool, more: Sequence[Key]) -> list[Key]:
    """The keys.

    Args:
        dialogue: the one on the screen.
        answering: an answer to it is being written.
        more: what this machine adds.
    """
    again = "Ctrl-R", say("status.again")
    send = say("status.key-enter"), say("status.send")
    if answering:
        first = [(say("status.key-esc"), say("status.stop"))]
    elif not dialogue.retriable:
        first = [send]
    elif dialogue.turns[-1].state == "stopped":  # by who may want to ask something else
        first = [send, again]
    else:
        first = [again]
    return [
        *first,
        ("Ctrl-N", say("status.new")),
        *more,
        ("Ctrl-L", say("status.list")),
        ("F1", say("status.model")),
        ("Ctrl-Q", say("status.quit")),
    ]
