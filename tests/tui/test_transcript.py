"""The scrolling area: what is in view, and what long conversations cost."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual.selection import SELECT_ALL

from edge.client import Delta
from tests.tui.conftest import Chatting
from tests.tui.scripted import Pause, ScriptedServer, done
from tests.tui.test_keeping import stored
from tui.entries import Said

LINES = [Delta(f"Line {n}\n\n") for n in range(60)]


def in_view(chat: object) -> str:
    transcript = chat.main.transcript  # type: ignore[attr-defined]
    return "\n".join(transcript.render_line(y).text for y in range(transcript.size.height))


async def test_a_growing_answer_stays_in_view(chatting: Chatting) -> None:
    pause = Pause()
    async with chatting(ScriptedServer([*LINES, pause, done()])) as chat:
        await chat.say("Count")
        await pause.reached.wait()
        await chat.until_shown("Line 59")
        assert "Line 59" in in_view(chat)
        assert "Line 20" not in in_view(chat)
        pause.go_on.set()
        await chat.until_answered()


async def test_who_scrolls_up_is_left_there(chatting: Chatting) -> None:
    first, second = Pause(), Pause()
    more = [Delta(f"More {n}\n\n") for n in range(30)]
    server = ScriptedServer([*LINES, first, *more, second, done()])
    async with chatting(server) as chat:
        await chat.say("Count")
        await first.reached.wait()
        await chat.until_shown("Line 59")
        await chat.pilot.press("pageup", "pageup")
        before = in_view(chat)
        assert "Line 59" not in before
        first.go_on.set()
        await second.reached.wait()
        await chat.until_shown("More 29")
        assert in_view(chat) == before
        await chat.pilot.press(*["pagedown"] * 8)
        assert "More 29" in in_view(chat)
        second.go_on.set()
        await chat.until_answered()
        assert chat.app.focused is chat.main.prompt


async def test_a_question_brings_the_end_into_view(chatting: Chatting) -> None:
    async with chatting(ScriptedServer([*LINES, done()])) as chat:
        await chat.say("Count")
        await chat.until_answered()
        await chat.pilot.press("pageup", "pageup")
        await chat.say("And now?")
        await chat.until_answered()
        assert "And now?" in in_view(chat)


async def test_of_a_long_conversation_the_end_is_laid_out(chatting: Chatting, path: Path) -> None:
    turns = [
        ("assistant" if n % 2 else "user", f"message {n} " + "word " * 40, "complete")
        for n in range(1000)
    ]
    stored(path, *turns)
    async with chatting(resume=True) as chat:
        await chat.until_shown("message 999")
        assert "971 earlier" in chat.text
        assert "message 969 " not in chat.text
        chat.main.transcript.scroll_to(y=3, animate=False)
        await chat.pilot.press("pageup")
        assert "941 earlier" in chat.text
        assert "message 970" in in_view(chat)  # what was in view still is
        for n in range(40):
            chat.main.transcript.add(Said(f"new {n}"))
        assert "message 999" not in chat.text
        assert len(chat.main.transcript._shown) <= 61


@pytest.mark.parametrize("size", [(40, 15), (20, 8), (10, 4), (200, 60)], ids=str)
async def test_any_size_of_screen(chatting: Chatting, size: tuple[int, int]) -> None:
    table = "| a | b | c |\n|-|-|-|\n| one | two | three |\n\n```\ncode\n```\n\n1. x\n   - y"
    async with chatting(ScriptedServer([Delta(table), done(reason="length")]), size=size) as chat:
        await chat.say("Hello there, how are you today?")
        await chat.until_answered()
        await chat.pilot.resize_terminal(80, 24)
        await chat.until_shown("one │ two │ three")
        await chat.pilot.resize_terminal(*size)
        await chat.pilot.press("pageup", "ctrl+l", "escape", "f1", "escape", "pagedown")


async def test_a_resize_keeps_the_place(chatting: Chatting) -> None:
    words = [Delta(f"Line {n} " + "word " * 30 + "\n\n") for n in range(60)]
    async with chatting(ScriptedServer([*words, done()])) as chat:
        for question in ("First", "Second"):
            await chat.say(question)
            await chat.until_answered()
        await chat.pilot.resize_terminal(50, 24)
        assert "Line" not in in_view(chat).splitlines()[-1]
        assert "A tree is a plant." in in_view(chat)
        chat.main.transcript.scroll_home(animate=False)
        await chat.pilot.pause()
        assert "You are talking" in in_view(chat)
        await chat.pilot.resize_terminal(90, 24)
        assert "You are talking" in in_view(chat)


async def test_selected_text_can_be_copied(chatting: Chatting) -> None:
    async with chatting() as chat:
        await chat.say("Hello")
        await chat.until_answered()
        transcript = chat.main.transcript
        copied = transcript.get_selection(SELECT_ALL)
        assert copied is not None
        assert "▌ Hello\n\n  A tree is a plant." in copied[0]
        chat.app.screen.selections = {transcript: SELECT_ALL}
        await chat.pilot.pause()
        assert "Hello" in in_view(chat)


async def test_what_the_user_wrote_is_shown_as_it_is(chatting: Chatting) -> None:
    async with chatting() as chat:
        await chat.type("# no *Markdown* [red]here[/red]\n\n    def f():\n\treturn")
        await chat.pilot.press("enter")
        await chat.until_answered()
        said = [line[2:].rstrip() for line in chat.text.splitlines() if line.startswith("▌")]
        assert said == ["# no *Markdown* [red]here[/red]", "", "    def f():", "    return"]


async def test_a_slow_board_paints_less_often(chatting: Chatting) -> None:
    pause = Pause()
    server = ScriptedServer([*LINES, pause, done()])
    async with chatting(server) as chat:
        painted = []
        original = chat.main.transcript._index
        chat.main.transcript._index = lambda: (painted.append(1), original())[1]  # type: ignore
        await chat.say("Count")
        await pause.reached.wait()
        assert len(painted) < 20  # for 60 pieces of text that came at once
        pause.go_on.set()
        await chat.until_answered()
        assert "Line 59" in chat.text
