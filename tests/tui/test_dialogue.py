"""What is sent to the model."""

from __future__ import annotations

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
