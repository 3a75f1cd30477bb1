"""Conversations survive what disks, power cuts and other processes do to their file."""

from __future__ import annotations

import fcntl
import itertools
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from edge.errors import HistoryError
from edge.history import History
from edge.migrations import MIGRATIONS
from edge.titles import title_from
from tests.namespaces import UNSHARE, namespaces


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "history.sqlite3"


def filled(path: Path, conversations: int = 6, turns: int = 8) -> dict[int, str]:
    """A database of many pages, closed; its messages' contents by id."""
    contents = {}
    history = History.open(path)
    for c in range(conversations):
        conversation, parent = history.create(), None
        for t in range(turns):
            content = f"message {c}/{t} é " * (30 + 97 * t % 200)
            role = "assistant" if t % 2 else "user"
            parent = history.append(conversation, role, content, parent=parent)
            contents[parent] = content
    history.close()
    return contents


def everything(history: History) -> dict[int, str]:
    return {
        message.id: message.content
        for conversation in history.conversations()
        for message in history.load(conversation.id)
    }


def run(code: str, *args: object, inside: list[str] | None = None) -> str:
    """Run a program of its own, in a namespace where `inside` says so; its output."""
    command = [*(inside or []), sys.executable, "-c", textwrap.dedent(code), *map(str, args)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


# --- what it is for


def test_a_conversation_is_kept(path: Path) -> None:
    history = History.open(path)
    conversation = history.create()
    asked = history.append(conversation, "user", "\n  What is\ta tree?\nTell me.", parent=None)
    answer = history.append(
        conversation, "assistant", "", parent=asked, state="writing", model="lucie"
    )
    history.write(answer, "A tree is", "writing")
    history.write(answer, "A tree is a plant.", "complete", {"completion_tokens": 5})
    history.close()

    history = History.open(path)
    (listed,) = history.conversations()
    question, reply = history.load(listed.id)
    assert history.salvage is None
    assert (listed.title, listed.messages) == ("What is a tree?", 2)
    assert (question.role, question.content) == ("user", "\n  What is\ta tree?\nTell me.")
    assert (reply.parent_id, reply.content, reply.state) == (
        asked,
        "A tree is a plant.",
        "complete",
    )
    assert (reply.model, reply.facts) == ("lucie", {"completion_tokens": 5})
    assert listed.updated == reply.created
    assert reply.created.utcoffset() is not None
    history.close()


def test_the_model_of_an_answer_may_be_known_later(path: Path) -> None:
    history = History.open(path)
    conversation = history.create()
    answer = history.append(conversation, "assistant", "", parent=None, state="writing")
    history.write(answer, "A", "writing", model="lucie")
    history.write(answer, "A tree.", "complete")
    assert history.load(conversation)[-1].model == "lucie"
    history.close()


def test_conversations_are_listed_by_their_last_message(path: Path) -> None:
    history = History.open(path)
    first, second, empty = history.create(), history.create(), history.create()
    parent = history.append(first, "user", "one", parent=None)
    history.append(second, "user", "two", parent=None)
    history.append(first, "user", "three", parent=parent)
    assert [c.id for c in history.conversations()] == [first, second]
    assert [c.id for c in history.conversations(limit=1)] == [first]
    assert empty not in [c.id for c in history.conversations()]
    history.close()


def test_a_commit_is_on_disk_when_the_call_returns(path: Path) -> None:
    history = History.open(path)
    for pragma, value in (("journal_mode", "wal"), ("synchronous", 2), ("foreign_keys", 1)):
        assert history._db.execute(f"PRAGMA {pragma}").fetchone() == (value,)
    history.close()


def test_messages_that_follow_each_other_in_a_circle_end_somewhere(path: Path) -> None:
    filled(path, 1, 4)
    with sqlite3.connect(path) as db:
        db.execute("UPDATE messages SET parent_id = 4 WHERE id = 1")
    db.close()
    history = History.open(path)
    assert [m.id for m in history.load(1)] == [1, 2, 3, 4]
    history.close()


def test_of_two_answers_to_one_question_the_newer_is_followed(path: Path) -> None:
    history = History.open(path)
    conversation = history.create()
    asked = history.append(conversation, "user", "?", parent=None)
    history.append(conversation, "assistant", "lost", parent=asked, state="failed")
    second = history.append(conversation, "assistant", "found", parent=asked)
    history.append(conversation, "user", "thanks", parent=second)
    assert [m.content for m in history.load(conversation)] == ["?", "found", "thanks"]
    history.close()


def test_renaming_and_deleting(path: Path) -> None:
    history = History.open(path)
    kept, lost = history.create(), history.create()
    history.append(kept, "user", "kept", parent=None)
    history.append(lost, "user", "lost", parent=None)
    history.rename(kept, " My\nown name ")
    history.append(kept, "user", "more", parent=None)
    history.delete(lost)
    assert [c.title for c in history.conversations()] == ["My"]
    for call in (
        lambda: history.load(lost),
        lambda: history.delete(lost),
        lambda: history.rename(lost, "x"),
        lambda: history.append(lost, "user", "x", parent=None),
        lambda: history.write(99, "x", "complete"),
    ):
        with pytest.raises(HistoryError) as caught:
            call()
        assert caught.value.code == "history.gone"
    assert history.create() > lost  # an id is never given twice
    history.close()


def test_deleted_text_is_gone_from_the_disk(path: Path) -> None:
    history = History.open(path)
    conversation = history.create()
    history.append(conversation, "user", "my secret" * 2000, parent=None)
    history.delete(conversation)
    assert b"my secret" not in b"".join(f.read_bytes() for f in path.parent.iterdir())
    history.close()


@pytest.mark.parametrize("salvaged", [False, True])
def test_what_is_deleted_gives_its_room_back(path: Path, salvaged: bool) -> None:
    """Else a full card stays full, whatever is deleted."""
    if salvaged:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"no database")
    history = History.open(path)
    assert (history.salvage is not None) == salvaged
    first, kept = history.create(), history.create()
    history.append(first, "user", "long " * 200_000, parent=None)
    history.append(kept, "user", "kept " * 1000, parent=None)
    history.delete(first)
    assert path.stat().st_size < 60_000
    assert history.load(kept)[0].content == "kept " * 1000
    history.close()


def test_a_long_conversation_can_be_deleted(path: Path) -> None:
    """Each message leads to the one after it; SQLite follows 1,000 of them."""
    history = History.open(path)
    conversation, kept = history.create(), history.create()
    message = """
        INSERT INTO messages (id, conversation_id, parent_id, role, content, state, created, facts)
        VALUES (?, ?, nullif(?, 0), 'user', 'my secret', 'complete', '2026-01-01', '{}')
    """
    with history._writing() as db:
        db.executemany(message, ((n, conversation, n - 1) for n in range(1, 1502)))
    history.append(kept, "user", "kept", parent=None)
    history.delete(conversation)
    assert [c.id for c in history.conversations()] == [kept]
    assert b"my secret" not in b"".join(f.read_bytes() for f in path.parent.iterdir())
    history.close()


def test_only_the_user_may_read_it(path: Path) -> None:
    history = History.open(path)
    history.append(history.create(), "user", "hello", parent=None)
    modes = {f.name: f.stat().st_mode & 0o077 for f in path.parent.iterdir()}
    assert len(modes) == 4  # the database, its log, the log's index, the lock
    assert set(modes.values()) == {0}
    assert path.parent.stat().st_mode & 0o077 == 0
    history.close()


@pytest.mark.parametrize(
    "text", ["a\0b", "\ud800 lone", "\x1b[31m", "\u202e", "🙂" * 70, ""], ids=ascii
)
def test_any_text_can_be_kept(path: Path, text: str) -> None:
    history = History.open(path)
    conversation = history.create()
    history.append(conversation, "user", text, parent=None)
    (message,) = history.load(conversation)
    assert message.content == text.replace("\ud800", "?")
    history.close()


def test_titles_are_one_short_line() -> None:
    assert title_from("\n\n a  b \n c") == "a b"
    assert title_from("word " * 50).endswith("word…")
    assert len(title_from("x" * 500)) == 60
    assert title_from(" \n ") == ""


# --- power cuts and damaged files


def test_a_killed_program_loses_nothing_that_was_written(path: Path) -> None:
    code = """
        import sys
        from pathlib import Path
        from edge.history import History
        history = History.open(Path(sys.argv[1]))
        conversation = history.create()
        asked = history.append(conversation, "user", "count", parent=None)
        answer = history.append(conversation, "assistant", "", parent=asked, state="writing")
        for n in range(1, 1_000_000):
            history.write(answer, " ".join(map(str, range(n))), "writing")
            print(n, flush=True)
    """
    for cut in (1, 7, 60):
        command = [sys.executable, "-c", textwrap.dedent(code), str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            said = [next(child.stdout) for _ in range(cut)]
            child.send_signal(signal.SIGKILL)
            said += child.stdout
        history = History.open(path)
        question, answer = history.load(history.conversations()[0].id)
        assert history.salvage is None
        assert (question.content, answer.state) == ("count", "writing")
        assert len(answer.content.split()) >= int(said[-1])
        history.close()


def test_a_truncated_file_is_set_aside_and_read_as_far_as_it_goes(path: Path) -> None:
    contents = filled(path)
    whole = path.read_bytes()
    pages = range(0, len(whole), 4096)
    lengths = sorted({2, 15, 60, 100, 2000, *pages[1:], *(p + 1234 for p in pages[:-1])})
    salvaged = []
    for length in lengths:
        place = path.parent / str(length)
        place.mkdir()
        copy = place / path.name
        copy.write_bytes(whole[:length])
        history = History.open(copy)
        assert history.salvage is not None
        assert history.salvage.set_aside.read_bytes() == whole[:length]
        found = everything(history)
        assert all(found[id_] and contents[id_].startswith(found[id_]) for id_ in found)
        assert len(found) == history.salvage.messages
        salvaged.append(len(found))
        conversation = history.create()
        history.append(conversation, "user", "life goes on", parent=None)
        history.close()
        shutil.rmtree(place)
    assert salvaged[-1] > len(contents) * 3 // 4
    assert sum(salvaged) > len(contents) * len(lengths) // 4


def test_destroyed_pages_cost_only_the_rows_on_them(path: Path) -> None:
    contents = filled(path)
    whole = bytearray(path.read_bytes())
    # Two leaves of the table: what stands between them can only be found one by one.
    first, last = (whole.find(f"message {c}/1 é".encode()) // 4096 for c in (1, 4))
    for page in (first, last):
        whole[page * 4096 : page * 4096 + 64] = os.urandom(64)
    path.write_bytes(whole)
    history = History.open(path)
    found = everything(history)
    assert found.items() <= contents.items()
    lost = set(contents) - set(found)
    assert lost
    assert len(found) > len(contents) // 2
    between = range(min(lost) + 1, max(lost))
    assert any(id_ in found for id_ in between)
    history.close()


def test_a_message_whose_parent_or_conversation_is_lost_keeps_its_place(path: Path) -> None:
    history = History.open(path)
    conversation = history.create()
    first = history.append(conversation, "user", "first", parent=None)
    second = history.append(conversation, "assistant", "second", parent=first)
    history.append(conversation, "user", "third", parent=second)
    history.close()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA ignore_check_constraints = ON")
        db.execute("DELETE FROM messages WHERE id = ?", (second,))
        db.execute("DELETE FROM conversations")
        db.execute("UPDATE messages SET facts = '{', created = 'yesterday' WHERE id = ?", (first,))
    db.close()
    history = History.open(path)
    assert history.salvage is not None
    (listed,) = history.conversations()
    assert listed.title == "first"
    assert [m.content for m in history.load(listed.id)] == ["first", "third"]
    assert history.load(listed.id)[0].facts == {}
    history.close()


@pytest.mark.parametrize(
    "contents",
    [b"not a database", b"\0" * 9000, os.urandom(20_000)],
    ids=["text", "zeros", "noise"],
)
def test_what_is_no_database_is_kept_aside(path: Path, contents: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(contents)
    history = History.open(path)
    assert history.salvage is not None
    assert history.salvage.messages == 0
    assert history.salvage.set_aside.name.startswith("history-damaged-")
    assert history.salvage.set_aside.read_bytes() == contents
    history.append(history.create(), "user", "hello", parent=None)
    history.close()


def test_a_database_of_another_program_is_kept_aside(path: Path) -> None:
    path.parent.mkdir()
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE other (x)")
    db.close()
    history = History.open(path)
    assert history.salvage is not None
    with sqlite3.connect(history.salvage.set_aside) as db:
        assert db.execute("SELECT * FROM other").fetchall() == []
    db.close()
    history.close()


def test_a_log_without_its_database_is_kept_aside(path: Path) -> None:
    history = History.open(path)
    history.append(history.create(), "user", "hello", parent=None)
    log = path.with_name(f"{path.name}-wal")
    whole = log.read_bytes()
    history.close()
    path.write_bytes(b"")
    log.write_bytes(whole)
    history = History.open(path)
    assert history.salvage is not None
    aside = history.salvage.set_aside
    assert aside.with_name(f"{aside.name}-wal").read_bytes() == whole
    history.close()


def test_a_damaged_file_takes_its_log_along(path: Path) -> None:
    contents = filled(path)
    code = """
        import os, sys
        from pathlib import Path
        from edge.history import History
        history = History.open(Path(sys.argv[1]))
        history.append(history.create(), "user", "only in the log", parent=None)
        os._exit(0)
    """
    run(code, path)
    with path.open("r+b") as file:
        file.seek(20 * 4096)
        file.write(os.urandom(4096))
    history = History.open(path)
    assert history.salvage is not None
    found = everything(history)
    assert "only in the log" in found.values()
    assert len(found) > len(contents) // 2
    history.close()


def test_a_file_that_claims_to_hold_endless_rows_is_read_in_time(path: Path) -> None:
    contents = filled(path)
    with sqlite3.connect(path) as db:
        db.execute("UPDATE messages SET id = 4611686018427387904 WHERE id = ?", (max(contents),))
    db.close()
    with path.open("r+b") as file:
        file.seek(20 * 4096)
        file.write(bytes(4096))
    history = History.open(path)
    assert history.salvage is not None
    assert history.salvage.messages > len(contents) // 2
    history.close()


def test_two_damaged_files_are_both_kept(path: Path) -> None:
    asides = set()
    for contents in (b"one", b"two"):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(contents)
        history = History.open(path)
        assert history.salvage is not None
        asides.add(history.salvage.set_aside)
        history.close()
    assert {aside.read_bytes() for aside in asides} == {b"one", b"two"}


def test_a_newer_file_is_refused_and_left_alone(path: Path) -> None:
    filled(path, 1, 2)
    with sqlite3.connect(path) as db:
        db.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    db.close()
    before = path.read_bytes()
    with pytest.raises(HistoryError) as caught:
        History.open(path)
    assert caught.value.code == "history.newer"
    assert str(path) in str(caught.value)
    assert path.read_bytes() == before


# --- full and read-only disks, other processes


def test_an_empty_file_that_cannot_be_written_holds_nothing(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    with pytest.raises(HistoryError):
        History.open_to_read(path)


@namespaces
def test_a_full_disk_is_told_and_recovered_from(tmp_path: Path) -> None:
    code = """
        import itertools, subprocess, sys
        from pathlib import Path
        from edge.errors import HistoryError
        from edge.history import History
        disk = Path(sys.argv[1])
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "none", disk], check=True)
        (disk / "other").write_bytes(b"x" * 100_000)
        history = History.open(disk / "history.sqlite3")
        conversation = history.create()
        asked = history.append(conversation, "user", "hello", parent=None)
        answer = history.append(conversation, "assistant", "", parent=asked, state="writing")
        try:
            for n in itertools.count(1):
                history.write(answer, "word " * 2000 * n, "writing")
        except HistoryError as error:
            print(error.code)
        kept = history.load(conversation)[1]
        assert kept.content == "word " * 2000 * (n - 1), "the last good state stays"
        (disk / "other").unlink()
        history.write(answer, "short", "complete")
        history.close()
        history = History.open(disk / "history.sqlite3")
        assert history.salvage is None
        print(history.load(conversation)[1].content)
    """
    assert run(code, tmp_path, inside=UNSHARE).split() == ["history.full", "short"]


@namespaces
def test_a_disk_with_no_room_at_all(tmp_path: Path) -> None:
    code = """
        import subprocess, sys
        from pathlib import Path
        from edge.errors import HistoryError
        from edge.history import History
        disk = Path(sys.argv[1])
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", disk], check=True)
        for room in range(0, 64, 4):
            for file in disk.iterdir():
                file.unlink()
            (disk / "other").write_bytes(b"x" * 1024 * (64 - room))
            try:
                history = History.open(disk / "history.sqlite3")
                history.append(history.create(), "user", "hello", parent=None)
                history.close()
            except HistoryError as error:
                print(error.code)
    """
    assert set(run(code, tmp_path, inside=UNSHARE).split()) == {"history.full"}


@namespaces
def test_a_damaged_file_on_a_full_disk_stays_where_it_is(tmp_path: Path) -> None:
    code = """
        import subprocess, sys
        from pathlib import Path
        from edge.errors import HistoryError
        from edge.history import History
        disk = Path(sys.argv[1])
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", disk], check=True)
        (disk / "history.sqlite3").write_bytes(b"x" * 60 * 1024)
        try:
            History.open(disk / "history.sqlite3")
        except HistoryError as error:
            print(error.code, (disk / "history.sqlite3").stat().st_size)
    """
    assert run(code, tmp_path, inside=UNSHARE).split() == ["history.full", "61440"]


@namespaces
def test_a_read_only_disk_is_told(path: Path) -> None:
    filled(path, 1, 2)
    code = """
        import subprocess, sys
        from pathlib import Path
        from edge.errors import HistoryError
        from edge.history import History
        path = Path(sys.argv[1])
        history = History.open(path)
        subprocess.run(["mount", "--bind", path.parent, path.parent], check=True)
        subprocess.run(["mount", "-o", "remount,bind,ro", path.parent], check=True)
        for place in (path, path.parent / "none" / "history.sqlite3"):
            try:
                History.open(place)
            except HistoryError as error:
                print(error.code)
    """
    said = run(code, path, inside=UNSHARE).split()
    assert said == ["history.read-only", "history.read-only"]


def test_a_folder_in_its_place_is_told(path: Path) -> None:
    path.mkdir(parents=True)
    with pytest.raises(HistoryError) as caught:
        History.open(path)
    assert caught.value.code == "history.failed"


def test_two_programs_may_write_at_once(path: Path) -> None:
    code = """
        import sys
        from pathlib import Path
        from edge.history import History
        history = History.open(Path(sys.argv[1]))
        conversation, parent = history.create(), None
        for n in range(40):
            parent = history.append(conversation, "user", f"{sys.argv[2]} {n}", parent=parent)
        history.close()
    """
    commands = ([sys.executable, "-c", textwrap.dedent(code), path, name] for name in "ab")
    children = [subprocess.Popen(command) for command in commands]
    assert [child.wait(60) for child in children] == [0, 0]
    history = History.open(path)
    said = sorted(everything(history).values())
    assert said == sorted(f"{name} {n}" for name, n in itertools.product("ab", range(40)))
    assert len(history.conversations()) == 2
    history.close()


def test_two_programs_set_a_damaged_file_aside_once(path: Path) -> None:
    filled(path, 2, 8)
    with path.open("r+b") as file:
        file.truncate(5 * 4096)
    code = """
        import sys
        from pathlib import Path
        from edge.history import History
        history = History.open(Path(sys.argv[1]))
        history.append(history.create(), "user", "hello", parent=None)
        history.close()
    """
    command = [sys.executable, "-c", textwrap.dedent(code), path]
    children = [subprocess.Popen(command) for _ in range(3)]
    assert [child.wait(60) for child in children] == [0, 0, 0]
    assert len(list(path.parent.glob("history-damaged-*.sqlite3"))) == 1
    history = History.open(path)
    assert list(everything(history).values()).count("hello") == 3
    history.close()


def test_a_file_is_mended_by_one_program_at_a_time(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"x" * 10_000)
    code = """
        import sys
        from pathlib import Path
        from edge.history import History
        print("opening", flush=True)
        print(History.open(Path(sys.argv[1])).salvage.messages, flush=True)
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(path)]
    with path.with_name(f"{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            assert next(child.stdout) == "opening\n"
            time.sleep(0.2)  # it cannot prove that the child waits, but show that it does not
            assert path.read_bytes() == b"x" * 10_000
            fcntl.flock(lock, fcntl.LOCK_UN)
            assert next(child.stdout) == "0\n"


def test_a_file_that_another_program_keeps_to_itself(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.database._WAIT_S", 0.05)
    history = History.open(path)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(HistoryError) as caught:
        history.create()
    assert caught.value.code == "history.busy"
    other.execute("ROLLBACK")
    assert history.create() > 0
    other.close()
    history.close()
