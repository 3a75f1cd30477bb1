"""Typing."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual.events import Paste

from edge.client import MOST_TEXT, Delta
from tests.tui.conftest import Chatting
from tests.tui.scripted import Pause, ScriptedServer
from tui.board import Board
from tui.network import Network
from tui.offers import Offers


@pytest.mark.parametrize("key", ["ctrl+j", "alt+enter", "shift+enter"])
async def test_several_lines(chatting: Chatting, key: str) -> None:
    server = ScriptedServer()
    async with chatting(server) as chat:
        assert chat.main.prompt.size.height == 1
        await chat.pilot.press("a", key, "b", key, key, "c")
        assert chat.main.prompt.text == "a\nb\n\nc"
        assert chat.main.prompt.size.height == 4
        await chat.pilot.press("enter")
        await chat.until_answered()
        assert chat.main.prompt.size.height == 1
    assert server.asked[0][0]["content"] == "a\nb\n\nc"


async def test_it_grows_only_so_far(chatting: Chatting) -> None:
    async with chatting() as chat:
        await chat.type("line\n" * 50)
        assert chat.main.prompt.size.height == 7
        assert chat.main.transcript.size.height > 5
    async with chatting(size=(40, 15)) as chat:
        await chat.type("line\n" * 50)
        assert chat.main.prompt.size.height == 3


async def test_nothing_is_not_sent(chatting: Chatting) -> None:
    server = ScriptedServer()
    async with chatting(server) as chat:
        await chat.say(" \n ")
        await chat.pilot.press("enter", "escape", "ctrl+r")
        assert server.asked == []


async def test_what_is_pasted_is_made_safe(chatting: Chatting) -> None:
    async with chatting() as chat:
        await chat.type("old")
        chat.main.prompt.select_all()
        chat.main.prompt.post_message(Paste("a\x1b[31mb\r\nc\u202e"))
        await chat.pilot.pause()
        assert chat.main.prompt.text == "a␛[31mb\nc\ufffd"


async def test_the_keys_that_work_are_shown(chatting: Chatting) -> None:
    async with chatting() as chat:
        keys = chat.main.key_line.keys
        assert [key for key, _ in keys] == [
            "Enter", "Ctrl-N", "Ctrl-L", "F1", "Ctrl-Q",
        ]  # fmt: skip


async def test_a_screen_of_80_columns_has_what_a_class_needs_in_french(
    chatting: Chatting, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LUCIE_LANG", "fr")
    monkeypatch.setattr("tui.board._EVERY_S", 0.01)
    (home / "offers").mkdir()
    (home / "offers/sdb1-one").write_text('{"text": "un modèle"}')
    board = Board(
        network=Network("Lucie", "abcd-efgh-ij", "http://10.42.0.1"),
        offers=Offers(home / "offers", home / "choice"),
    )
    async with chatting(board=board) as chat:
        wanted = ["Entrée envoyer", "Ctrl-N", "F4 clé USB", "F3", "Ctrl-Q"]
        await chat.until(lambda: "F4" in str(chat.main.key_line.render()))
        shown = str(chat.main.key_line.render())
        assert [word for word in wanted if word in shown] == wanted


async def test_who_types_ahead_loses_nothing(chatting: Chatting) -> None:
    from textual.events import Key

    server = ScriptedServer()
    async with chatting(server) as chat:
        for key in "One\rTwo\r":  # all in one piece, as a slow board or line delivers them
            name = {"\r": "enter"}.get(key, key)
            chat.app.post_message(Key(name, key))
        await chat.until_answered()
        await chat.until(lambda: chat.main.prompt.text == "Two")
    assert server.asked == [[{"role": "user", "content": "One"}]]


async def test_after_a_stop_the_key_that_asks_again_is_shown(chatting: Chatting) -> None:
    pause = Pause()
    async with chatting(ScriptedServer([Delta("Half"), pause]), size=(60, 24)) as chat:
        await chat.say("Hello")
        await chat.until_shown("Half")
        await chat.pilot.press("escape")
        await chat.until_shown("Stopped.")
        shown = str(chat.main.key_line.render())
        assert "Enter send" in shown
        assert "Ctrl-R ask again" in shown


async def test_what_is_far_too_long_is_not_even_shown(chatting: Chatting) -> None:
    server = ScriptedServer()
    async with chatting(server) as chat:
        await chat.type("before")
        chat.main.prompt.post_message(Paste("x" * (MOST_TEXT + 1)))
        await chat.until(lambda: "1,000,001 characters" in chat.toasts)
        assert chat.main.prompt.text == "before"
        chat.main.prompt.put("é" * (MOST_TEXT // 2))
        await chat.pilot.press("enter")
        await chat.until(lambda: "500,000 characters" in chat.toasts)
        assert len(chat.main.prompt.text) == MOST_TEXT // 2
        chat.main.prompt.clear()
        await chat.say("short")
        await chat.until_answered()
    assert [m["content"] for m in server.asked[0]] == ["short"]


@pytest.mark.parametrize("size", [(1, 1), (2, 10), (4, 10), (5, 2), (6, 3)])
async def test_a_screen_with_hardly_a_column(chatting: Chatting, size: tuple[int, int]) -> None:
    async with chatting(size=size) as chat:
        await chat.pilot.pause()
        await chat.say("Hello")
        await chat.until_answered()
        await chat.pilot.resize_terminal(80, 24)
        await chat.until_shown("A tree is a plant.")
        await chat.pilot.resize_terminal(*size)
        await chat.pilot.pause()
