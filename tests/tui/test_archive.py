"""The archive: each message is written once, and again only where it must be."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from edge.errors import HistoryError
from edge.history import History
from tests.tui.conftest import kept
from tui.archive import Archive
from tui.dialogue import Dialogue


def talk() -> Dialogue:
    dialogue = Dialogue("Be brief.")
    dialogue.ask("Hello")
    dialogue.answer().content = "Yes"
    dialogue.turns[-1].state = "complete"
    return dialogue


async def test_a_dialogue_is_written_once(path: Path) -> None:
    archive, dialogue = Archive(path), talk()
    await asyncio.gather(*(archive.keep(dialogue) for _ in range(5)))
    await archive.aclose()
    assert kept(path) == [
        [("system", "Be brief.", "complete"), ("user", "Hello", "complete"),
         ("assistant", "Yes", "complete")]
    ]  # fmt: skip


async def test_a_growing_answer_is_rewritten_in_place(path: Path) -> None:
    archive, dialogue = Archive(path), Dialogue()
    dialogue.ask("Count")
    answer = dialogue.answer()
    for n in range(20):
        answer.content += f"{n} "
        await archive.keep(dialogue)
    answer.state = "stopped"
    await archive.keep(dialogue)
    await archive.aclose()
    assert kept(path)[0][1] == ("assistant", " ".join(map(str, range(20))) + " ", "stopped")


async def test_nothing_is_kept_before_something_is_said(path: Path) -> None:
    archive = Archive(path)
    await archive.keep(Dialogue("Be brief."))
    await archive.aclose()
    assert not path.exists()


async def test_a_retried_answer_stays_beside_the_new_one(path: Path) -> None:
    archive, dialogue = Archive(path), talk()
    dialogue.turns[-1].state = "failed"
    dialogue.retry()
    dialogue.answer().content = "Yes indeed"
    await archive.keep(dialogue)
    (conversation,) = await archive.conversations()
    assert conversation.messages == 4
    await archive.aclose()
    assert [m[1] for m in kept(path)[0]] == ["Be brief.", "Hello", "Yes indeed"]


async def test_what_was_kept_in_a_file_since_damaged_is_kept_anew(path: Path) -> None:
    dialogue = talk()
    archive = Archive(path)
    await archive.keep(dialogue)
    await archive.aclose()
    path.write_bytes(b"x" * 10_000)
    history = History.open(path)  # another program mends it, and goes on in it
    other = history.create()
    history.append(other, "user", "not to be touched", parent=None)
    history.close()
    path.write_bytes(b"y" * 10_000)
    archive = Archive(path)
    dialogue.ask("Still here?")
    await archive.keep(dialogue)
    assert archive.salvage is not None
    await archive.aclose()
    assert [m[1] for m in kept(path)[0]] == ["Be brief.", "Hello", "Yes", "Still here?"]


async def test_an_error_is_told_and_the_next_call_starts_afresh(path: Path) -> None:
    path.parent.write_text("a file where the folder should be")
    archive, dialogue = Archive(path), talk()
    for _ in range(2):
        with pytest.raises(HistoryError):
            await archive.keep(dialogue)
    path.parent.unlink()
    await archive.keep(dialogue)
    await archive.aclose()
    assert len(kept(path)[0]) == 3
