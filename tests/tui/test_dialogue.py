"""What is sent to the model."""

from __future__ import annotations

from edge.client import MOST_TEXT, size_in_request
from tui.dialogue import Dialogue


def answered(dialogue: Dialogue, text: str, state: str = "complete") -> None:
    turn = dialogue.answer()
    turn.content, turn.state = text, state  # type: ignore[assignment]


def sent(dialogue: Dialogue) -> list[tuple[str, str]]:
    return [(m["role"], m["content"]) for m in dialogue.to_send()]


def test_roles_take_turns_whatever_happened() -> None:
    dialogue = Dialogue("Be brief.")
    dialogue.ask("one")
    answered(dialogue, "", "failed")
    dialogue.ask("two")
    answered(dialogue, "half", "stopped")
    dialogue.ask("three")
    answered(dialogue, "", "failed")
    dialogue.turns[-1].facts = {"refused": "server.prompt-too-long"}
    dialogue.ask("four")
    assert sent(dialogue) == [
        ("system", "Be brief."), ("user", "one\n\ntwo"), ("assistant", "half"), ("user", "four"),
    ]  # fmt: skip


def test_what_can_be_asked_again() -> None:
    dialogue = Dialogue()
    assert not dialogue.retriable
    dialogue.ask("one")
    assert dialogue.retriable
    assert not dialogue.retry()
    answered(dialogue, "half", "stopped")
    assert dialogue.retriable
    assert dialogue.retry()
    answered(dialogue, "whole")
    assert not dialogue.retriable
    assert sent(dialogue) == [("user", "one"), ("assistant", "whole")]
    half, whole = dialogue.written[1:]
    assert half.parent is whole.parent


def test_the_first_question_is_the_title() -> None:
    dialogue = Dialogue()
    dialogue.ask("\nWhat is\n a tree?")
    dialogue.ask("More")
    assert dialogue.title == "What is"


def test_more_than_a_request_holds_is_left_out_from_the_oldest_on() -> None:
    dialogue = Dialogue("Be brief.")
    for number in range(40):
        dialogue.ask(f"question {number} " + "é\n" * 10_000)
        answered(dialogue, f"answer {number} " + "x" * 10_000)
    dialogue.ask("last")
    messages = dialogue.to_send()
    assert sum(size_in_request(message["content"]) for message in messages) <= MOST_TEXT
    assert messages[0] == {"role": "system", "content": "Be brief."}
    assert messages[1]["role"] == "user"
    assert messages[-1] == {"role": "user", "content": "last"}
    kept = [message["content"].split()[1] for message in messages[1:-1:2]]
    assert kept == [str(number) for number in range(40 - len(kept), 40)]
    assert len(kept) == 19  # of 50 kB and 64 bytes for each of two messages


def test_a_text_that_no_request_holds_does_not_end_the_conversation() -> None:
    dialogue = Dialogue()
    dialogue.ask("x" * (MOST_TEXT + 1))
    answered(dialogue, "", "failed")
    dialogue.ask("short")
    assert sent(dialogue) == [("user", "short")]
