"""The history as the chat sees it: reopened, damaged, full, read-only, shared."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from edge.client import Delta, Progress
from edge.errors import HistoryError
from edge.history import History
from edge.migrations import MIGRATIONS
from tests.edge.test_claims import held_elsewhere
from tests.namespaces import UNSHARE, namespaces
from tests.tui.conftest import Chatting, kept
from tests.tui.scripted import Pause, ScriptedServer, done


def stored(path: Path, *turns: tuple[str, str, str]) -> int:
    """A conversation in the history."""
    history = History.open(path)
    conversation, parent = history.create(), None
    for role, content, state in turns:
        parent = history.append(conversation, role, content, parent=parent, state=state)
    history.close()
    return conversation


def in_the_way(path: Path) -> None:
    """Nothing can be saved until what stands in the folder's place is removed."""
    path.parent.parent.mkdir(exist_ok=True)
    path.parent.write_text("a file where the folder should be")


async def test_the_last_conversation_goes_on(chatting: Chatting, path: Path) -> None:
    stored(path, ("user", "Other", "complete"), ("assistant", "One", "complete"))
    stored(
        path,
        ("system", "Be brief.", "complete"),
        ("user", "What is a tree?", "complete"),
        ("assistant", "A *plant*", "stopped"),
    )
    server = ScriptedServer()
    async with chatting(server, resume=True, system="Not this one") as chat:
        await chat.until_shown("What is a tree?")
        assert "A plant" in chat.text
        assert "Stopped." in chat.text
        await chat.say("Go on")
        await chat.until_answered()
    assert [m["content"] for m in server.asked[0]] == [
        "Be brief.", "What is a tree?", "A *plant*", "Go on",
    ]  # fmt: skip
    assert len(kept(path)) == 2
    assert [m[1] for m in kept(path)[0]][-2:] == ["Go on", "A tree is a *plant*."]


async def test_to_go_on_where_there_is_nothing_is_to_begin(chatting: Chatting) -> None:
    async with chatting(resume=True) as chat:
        await chat.say("Hello")
        await chat.until(lambda: not chat.main._resuming)
        if chat.main.prompt.text:  # Enter came before the history was read
            await chat.pilot.press("enter")
        await chat.until_answered()
        assert "A tree is a plant." in chat.text


@pytest.mark.parametrize(
    ("state", "told"),
    [
        ("writing", "The program ended while this was being written."),
        ("failed", "This answer broke off."),
    ],
)
async def test_a_broken_answer_of_last_time_can_be_asked_again(
    chatting: Chatting, path: Path, state: str, told: str
) -> None:
    stored(path, ("user", "Hello", "complete"), ("assistant", "Half", state))
    server = ScriptedServer()
    async with chatting(server, resume=True) as chat:
        await chat.until_shown(told)
        await chat.pilot.press("ctrl+r")
        await chat.until_answered()
        assert "Half" not in chat.text
    assert server.asked == [[{"role": "user", "content": "Hello"}]]
    assert [m[1] for m in kept(path)[0]] == ["Hello", "A tree is a *plant*."]


async def test_a_damaged_history_is_told(chatting: Chatting, path: Path) -> None:
    stored(path, ("user", "Hello", "complete"), ("assistant", "Yes", "complete"))
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA ignore_check_constraints = ON")
        db.execute("UPDATE messages SET facts = '{'")
    db.close()
    async with chatting() as chat:
        await chat.until_shown("had been damaged")
        text = " ".join(chat.text.split())
        assert "(conversations: 1, messages: 2)" in text
        assert "history-damaged-" in text
        await chat.say("Hello")
        await chat.until_answered()
    assert len(kept(path)) == 2


async def test_a_history_of_which_nothing_is_left_is_told(chatting: Chatting, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"This is no database. " * 500)
    async with chatting() as chat:
        await chat.until_shown("nothing in them can be read")
        assert "history-damaged-" in " ".join(chat.text.split())


async def test_a_history_of_a_later_version_is_left_alone(chatting: Chatting, path: Path) -> None:
    stored(path, ("user", "Hello", "complete"))
    with sqlite3.connect(path) as db:
        db.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    db.close()
    async with chatting() as chat:
        await chat.until_shown("newer version of this program")
        await chat.say("Hello")
        await chat.until_answered()
        assert "A tree is a plant." in chat.text
        assert chat.text.count("Not saved.") == 1
        assert "(not saved)" in str(chat.main.heading.content)


async def test_saving_is_tried_again_with_the_next_message(chatting: Chatting, path: Path) -> None:
    in_the_way(path)
    async with chatting() as chat:
        await chat.until_shown("Not saved.")
        await chat.say("First")
        await chat.until_answered()
        path.parent.unlink()
        await chat.say("Second")
        await chat.until_answered()
        assert "Saving works again" in chat.text
        assert "(not saved)" not in str(chat.main.heading.content)
    (conversation,) = kept(path)
    assert [m[1] for m in conversation] == [
        "First", "A tree is a *plant*.", "Second", "A tree is a *plant*.",
    ]  # fmt: skip


async def test_a_conversation_deleted_elsewhere_is_kept_anew(
    chatting: Chatting, path: Path
) -> None:
    async with chatting() as chat:
        await chat.say("First")
        await chat.until_answered()
        history = History.open(path)
        history.delete(history.conversations()[0].id)
        history.close()
        await chat.say("Second")
        await chat.until_answered()
    (conversation,) = kept(path)
    assert [m[1] for m in conversation][::2] == ["First", "Second"]


@namespaces
def test_a_full_disk_does_not_end_the_conversation(tmp_path: Path) -> None:
    code = """
        import asyncio, subprocess, sys
        from pathlib import Path
        sys.path.insert(0, sys.argv[2])
        from tests.tui.scripted import ScriptedServer
        from tui.app import ChatApp
        from tui.archive import Archive
        from tui.chat_screen import ChatScreen
        from tui.source import Source
        from tests.tui.conftest import Chat, kept

        disk = Path(sys.argv[1])
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "none", disk], check=True)
        (disk / "other").write_bytes(b"x" * 290 * 1024)

        async def talk():
            server = ScriptedServer()
            archive = Archive(disk / "h.sqlite3")
            app = ChatApp(ChatScreen(Source(lambda: server), archive, lambda _: []))
            async with app.run_test(size=(80, 24)) as pilot:
                chat = Chat(app, pilot)
                await chat.until_shown("no room left on the disk")
                await chat.say("First")
                await chat.until_answered()
                assert chat.text.count("A tree is a plant.") == 1
                (disk / "other").unlink()
                await chat.say("Second")
                await chat.until_answered()
                assert "Saving works again" in chat.text

        asyncio.run(talk())
        print([m[1] for m in kept(disk / "h.sqlite3")[0]])
    """
    command = [*UNSHARE, sys.executable, "-c", textwrap.dedent(code)]
    command += [str(tmp_path), str(Path(__file__).parents[2])]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.count("A tree is") == 2


@namespaces
def test_on_a_full_disk_the_conversations_can_still_be_read(tmp_path: Path) -> None:
    code = """
        import asyncio, subprocess, sys
        from pathlib import Path
        sys.path.insert(0, sys.argv[2])
        from tests.tui.scripted import ScriptedServer
        from tui.app import ChatApp
        from tui.archive import Archive
        from tui.chat_screen import ChatScreen
        from tui.source import Source
        from tests.tui.conftest import Chat
        from tests.tui.test_keeping import stored

        disk = Path(sys.argv[1])
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "none", disk], check=True)
        stored(disk / "h.sqlite3", ("user", "What is moss?", "complete"))
        for size in (4096, 1):
            try:
                with (disk / "other").open("ab", buffering=0) as file:
                    while True:
                        file.write(b"x" * size)
            except OSError:
                pass

        async def look():
            archive = Archive(disk / "h.sqlite3")
            screen = ChatScreen(Source(ScriptedServer), archive, lambda _: [], resume=True)
            app = ChatApp(screen)
            async with app.run_test(size=(80, 24)) as pilot:
                chat = Chat(app, pilot)
                await chat.until_shown("no room left on the disk")
                assert "What is moss?" in chat.text
                await pilot.press("ctrl+l")
                await chat.until(lambda: app.screen.query_one("OptionList").option_count == 1)

        asyncio.run(look())
    """
    command = [*UNSHARE, sys.executable, "-c", textwrap.dedent(code)]
    command += [str(tmp_path), str(Path(__file__).parents[2])]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr


async def test_a_repaired_history_is_told_where_it_goes_on(chatting: Chatting, path: Path) -> None:
    stored(path, ("user", "What is a tree?", "complete"), ("assistant", "A plant", "complete"))
    with sqlite3.connect(path) as db:
        db.execute("DELETE FROM conversations")
        db.execute("ALTER TABLE conversations RENAME TO others")
    db.close()
    async with chatting(resume=True) as chat:
        await chat.until_shown("had been damaged")
        assert "A plant" in chat.text
        assert str(chat.main.heading.content) == "What is a tree?"


async def test_leaving_with_what_could_not_be_saved_is_asked_once(
    chatting: Chatting, path: Path
) -> None:
    in_the_way(path)
    async with chatting() as chat:
        await chat.say("First")
        await chat.until_answered()
        await chat.pilot.press("ctrl+q")
        await chat.until_shown("To leave all the same")
        assert chat.app.is_running
        assert chat.main.lost is None
        await chat.say("Second")
        await chat.until_answered()
        await chat.pilot.press("ctrl+q")  # what was said since is asked about again
        await chat.until(lambda: chat.text.count("To leave all the same") == 2)
        assert chat.app.is_running
        await chat.pilot.press("ctrl+q")
        await chat.until(lambda: not chat.app.is_running)
        assert isinstance(chat.main.lost, HistoryError)


async def test_a_new_conversation_does_not_lose_the_old_one_in_silence(
    chatting: Chatting, path: Path
) -> None:
    in_the_way(path)
    async with chatting() as chat:
        await chat.say("First")
        await chat.until_answered()
        await chat.pilot.press("ctrl+n")
        await chat.until_shown("To leave all the same")
        assert "First" in chat.text
        await chat.pilot.press("ctrl+n")
        await chat.until(lambda: "First" not in chat.text)


async def test_leaving_saves_what_can_be_saved_by_then(chatting: Chatting, path: Path) -> None:
    in_the_way(path)
    async with chatting() as chat:
        await chat.say("First")
        await chat.until_answered()
        path.parent.unlink()
        await chat.pilot.press("ctrl+q")
        await chat.until(lambda: not chat.app.is_running)
        assert chat.main.lost is None
    assert len(kept(path)[0]) == 2


async def test_what_is_open_in_another_chat_is_not_opened(chatting: Chatting, path: Path) -> None:
    conversation = stored(path, ("user", "Hello", "complete"), ("assistant", "Half", "writing"))
    with held_elsewhere(path.with_name("history.sqlite3.open"), conversation):
        async with chatting(resume=True) as chat:
            await chat.until_shown("The last conversation is open")
            assert "Half" not in chat.text
            await chat.pilot.press("ctrl+l")
            await chat.pilot.press("enter")
            await chat.until_shown("This conversation is open")
            await chat.say("New")
            await chat.until_answered()
    assert [len(messages) for messages in kept(path)] == [2, 2]


async def test_the_context_of_a_reopened_conversation_is_known(
    chatting: Chatting, path: Path
) -> None:
    async with chatting() as chat:
        await chat.say("Hello")
        await chat.until_answered()
        assert chat.main.status_line.status.used == 24 + 8
    pause = Pause()
    async with chatting(ScriptedServer(connects=[[pause]]), resume=True) as chat:
        await chat.until_shown("A tree is a plant.")
        pause.go_on.set()  # the model is ready after the conversation is
        await chat.until(lambda: chat.state == "ready")
        assert chat.main.status_line.status.used == 24 + 8


async def test_an_answer_counts_while_it_grows_and_when_it_was_stopped(
    chatting: Chatting, path: Path
) -> None:
    pause = Pause()
    script = [Progress(24, 24, 0), Delta("Half", 3), pause]
    async with chatting(ScriptedServer(script)) as chat:
        await chat.say("Hello")
        await pause.reached.wait()
        assert chat.main.status_line.status.used == 24 + 3
        await chat.pilot.press("escape")
        await chat.until_answered()
        assert chat.main.status_line.status.used == 24 + 3
    async with chatting(resume=True) as chat:
        await chat.until_shown("Half")
        assert chat.main.status_line.status.used == 24 + 3


async def test_two_chats_at_once(chatting: Chatting, path: Path) -> None:
    pause = Pause()
    server = ScriptedServer([Delta("One"), pause, done()])
    async with chatting(server) as first:
        await first.say("In the first")
        await pause.reached.wait()
        async with chatting() as second:
            await second.say("In the second")
            await second.until_answered()
        pause.go_on.set()
        await first.until_answered()
    assert sorted(c[0][1] for c in kept(path)) == ["In the first", "In the second"]


async def test_a_history_that_is_taken_away_meanwhile_begins_anew(
    chatting: Chatting, path: Path
) -> None:
    stored(path, ("user", "Other", "complete"), ("assistant", "One", "complete"))
    async with chatting() as chat:
        await chat.say("First")
        await chat.until_answered()
        path.rename(path.with_name("moved"))
        await chat.say("Second")
        await chat.until_answered()
    (conversation,) = kept(path)
    assert [content for role, content, _ in conversation if role == "user"] == ["First", "Second"]


@namespaces
def test_a_history_that_cannot_be_written_is_read(tmp_path: Path) -> None:
    code = """
        import asyncio, subprocess, sys
        from pathlib import Path
        sys.path.insert(0, sys.argv[2])
        from tests.tui.scripted import ScriptedServer
        from tests.tui.test_keeping import stored
        from tui.app import ChatApp
        from tui.archive import Archive
        from tui.chat_screen import ChatScreen
        from tui.source import Source
        from tests.tui.conftest import Chat, kept

        disk = Path(sys.argv[1])
        subprocess.run(["mount", "-t", "tmpfs", "none", disk], check=True)
        path = disk / "h.sqlite3"
        stored(path, ("user", "Old question", "complete"), ("assistant", "Yes", "complete"))
        stored(path, ("user", "Last question", "complete"), ("assistant", "No", "complete"))
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)

        async def talk():
            app = ChatApp(ChatScreen(
                Source(ScriptedServer), Archive(path), lambda _: [], resume=True
            ))
            async with app.run_test(size=(80, 24)) as pilot:
                chat = Chat(app, pilot)
                await chat.until_shown("Last question")
                await chat.until_shown("cannot be written")
                await chat.say("Next")
                await chat.until_answered()
                assert len(await chat.main._archive.conversations()) == 2
                subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
                await chat.say("And now?")
                await chat.until_answered()
                await chat.until_shown("Saving works again")

        asyncio.run(talk())
        print([m[1] for m in kept(path)[0] if m[0] == "user"], len(kept(path)))
    """
    arguments = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path), str(Path.cwd())]
    ran = subprocess.run([*UNSHARE, *arguments], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == "['Last question', 'Next', 'And now?'] 2\n"
