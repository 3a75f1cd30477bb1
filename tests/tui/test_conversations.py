"""The list of conversations."""

from __future__ import annotations

from pathlib import Path

from textual.widgets import Input, OptionList

from edge.client import Delta
from edge.history import History
from edge.kvstore import kv_store_dir
from tests.edge.test_claims import held_elsewhere
from tests.tui.conftest import Chat, Chatting, kept
from tests.tui.scripted import Pause, ScriptedServer, done
from tests.tui.test_keeping import stored


def titles(chat: Chat) -> list[str]:
    options = chat.app.screen.query_one(OptionList)
    lines = [str(options.get_option_at_index(n).prompt) for n in range(options.option_count)]
    return [line[12:] for line in lines]


def question(chat: Chat) -> str:
    return str(chat.app.screen.query_one("#question").content)


async def opened(chat: Chat, count: int) -> None:
    await chat.pilot.press("ctrl+l")
    await chat.until(lambda: chat.app.screen.query(OptionList) and len(titles(chat)) == count)


def three(path: Path) -> None:
    for name in ("Oldest", "Middle", "Newest"):
        stored(path, ("user", name, "complete"), ("assistant", f"Re {name}", "complete"))


async def test_opening_one_shows_it_and_goes_on(chatting: Chatting, path: Path) -> None:
    three(path)
    server = ScriptedServer()
    async with chatting(server) as chat:
        await opened(chat, 3)
        assert titles(chat) == ["Newest", "Middle", "Oldest"]
        await chat.pilot.press("down", "enter")
        await chat.until_shown("Re Middle")
        await chat.say("More")
        await chat.until_answered()
    assert [m["content"] for m in server.asked[0]] == ["Middle", "Re Middle", "More"]
    assert [m[1] for m in kept(path)[0]][:3] == ["Middle", "Re Middle", "More"]


async def test_going_back_changes_nothing(chatting: Chatting, path: Path) -> None:
    three(path)
    async with chatting() as chat:
        await chat.type("half a thought")
        await opened(chat, 3)
        await chat.pilot.press("escape")
        assert chat.main.prompt.text == "half a thought"
        assert chat.app.focused is chat.main.prompt
        assert "Re " not in chat.text


async def test_deleting_asks_first(chatting: Chatting, path: Path) -> None:
    three(path)
    async with chatting() as chat:
        await opened(chat, 3)
        await chat.pilot.press("down", "delete")
        assert "“Middle” and its 2 messages" in question(chat)
        await chat.pilot.press("escape")
        assert question(chat) == ""
        await chat.pilot.press("delete", "up")
        assert question(chat) == ""
        await chat.pilot.press("down", "d", "delete")
        await chat.until(lambda: titles(chat) == ["Newest", "Oldest"])
    assert [c[0][1] for c in kept(path)] == ["Newest", "Oldest"]


async def test_engines_forget_what_is_deleted(chatting: Chatting, path: Path) -> None:
    three(path)
    state = kv_store_dir() / "a-model" / "state.kv"
    state.parent.mkdir(parents=True)
    state.touch()
    async with chatting() as chat:
        await opened(chat, 3)
        await chat.pilot.press("delete")
        assert "server" not in question(chat)
        assert state.exists()
        await chat.pilot.press("delete")
        await chat.until(lambda: len(titles(chat)) == 2)
    assert not state.exists()


async def test_where_another_machine_answers_it_is_said_what_may_be_left(
    chatting: Chatting, path: Path
) -> None:
    three(path)
    async with chatting(url="http://elsewhere") as chat:
        await opened(chat, 3)
        await chat.pilot.press("delete")
        assert "server that answers may have kept something" in question(chat)


async def test_what_cannot_be_forgotten_is_not_deleted(chatting: Chatting, path: Path) -> None:
    three(path)
    (kv_store_dir() / "a-model" / "no-file.kv").mkdir(parents=True)
    async with chatting() as chat:
        await opened(chat, 3)
        await chat.pilot.press("delete", "delete")
        await chat.until(lambda: "Nothing was deleted" in question(chat))
        assert str(kv_store_dir()) in question(chat)
    assert len(kept(path)) == 3


async def test_one_that_is_open_in_another_chat_is_not_deleted(
    chatting: Chatting, path: Path
) -> None:
    three(path)
    with held_elsewhere(path.with_name("history.sqlite3.open"), 3):  # the newest
        async with chatting() as chat:
            await opened(chat, 3)
            await chat.pilot.press("delete", "delete")
            await chat.until(lambda: "is open in another chat" in question(chat))
            await chat.pilot.press("down", "delete", "delete")
            await chat.until(lambda: titles(chat) == ["Newest", "Oldest"])
    assert [c[0][1] for c in kept(path)] == ["Newest", "Oldest"]


async def test_deleting_the_one_on_the_screen_begins_anew(chatting: Chatting, path: Path) -> None:
    pause = Pause()
    async with chatting(ScriptedServer([Delta("Half"), pause, done()])) as chat:
        await chat.say("Hello")
        await pause.reached.wait()
        await opened(chat, 1)
        await chat.pilot.press("delete", "delete")
        await chat.until(lambda: "no saved conversations" in question(chat))
        await chat.pilot.press("escape")
        assert "Hello" not in chat.text
    assert kept(path) == []


async def test_renaming(chatting: Chatting, path: Path) -> None:
    three(path)
    async with chatting(resume=True) as chat:
        await chat.until_shown("Newest")
        await opened(chat, 3)
        await chat.pilot.press("r")
        assert chat.app.screen.query_one(Input).value == "Newest"
        chat.app.screen.query_one(Input).value = "Homework"
        await chat.pilot.press("enter")
        await chat.until(lambda: titles(chat)[0] == "Homework")
        await chat.pilot.press("r", "escape")
        await chat.pilot.press("escape")
        assert str(chat.main.heading.content) == "Homework"
    history = History.open(path)
    assert [c.title for c in history.conversations()] == ["Homework", "Middle", "Oldest"]
    history.close()


async def test_what_goes_wrong_is_told_in_place(chatting: Chatting, path: Path) -> None:
    three(path)
    async with chatting() as chat:
        await opened(chat, 3)
        history = History.open(path)
        for conversation in history.conversations():
            history.delete(conversation.id)
        history.close()
        await chat.pilot.press("delete", "delete")
        await chat.until(lambda: "has been deleted" in question(chat))
        await chat.pilot.press("enter")
        await chat.until_shown("has been deleted")


async def test_titles_of_others_cannot_touch_the_terminal(chatting: Chatting, path: Path) -> None:
    stored(path, ("user", "\x1b]0;owned\x07[red]x[/red]", "complete"))
    stored(path, ("assistant", "nothing was asked", "complete"))
    async with chatting() as chat:
        await opened(chat, 2)
        assert titles(chat) == ["Untitled", "␛]0;owned␇[red]x[/red]"]


async def test_the_answer_goes_on_behind_the_list(chatting: Chatting, path: Path) -> None:
    pause = Pause()
    async with chatting(ScriptedServer([Delta("One "), pause, Delta("two"), done()])) as chat:
        await chat.say("Hello")
        await pause.reached.wait()
        await opened(chat, 1)
        pause.go_on.set()
        await chat.until_answered()
        await chat.pilot.press("escape")
        assert "One two" in chat.text


async def test_leaving_from_the_list(chatting: Chatting, path: Path) -> None:
    three(path)
    async with chatting() as chat:
        await opened(chat, 3)
        await chat.pilot.press("ctrl+n", "ctrl+r", "ctrl+q")
        assert chat.app.return_code == 0
