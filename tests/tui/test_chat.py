"""Talking: what is sent, shown, stopped and kept."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from edge.client import Delta, ModelInfo, Notice, Progress, Queued, Starting
from edge.errors import ContextFullError, EngineError, ServerError, UsageError
from tests.tui.conftest import Chatting, kept
from tests.tui.scripted import INFO, WORDS, Pause, ScriptedServer, done
from tui.board import Board
from tui.notices import Notices


async def test_a_question_is_answered_and_kept(chatting: Chatting, path: Path) -> None:
    server = ScriptedServer()
    async with chatting(server) as chat:
        assert "You are talking to an AI" in chat.text
        await chat.say("What is a tree?")
        await chat.until_answered()
        assert "▌ What is a tree?" in chat.text
        assert "  A tree is a plant." in chat.text
        assert chat.main.prompt.text == ""
        assert chat.state == "ready"
        status = chat.main.status_line.status
        assert (status.used, status.window, status.speed) == (32, 2048, 64.0)
        assert (status.model, status.memory) == (INFO.name, 210 * 2**20)
        await chat.say("And a bush?")
        await chat.until_answered()
    assert server.asked[1] == [
        {"role": "user", "content": "What is a tree?"},
        {"role": "assistant", "content": "A tree is a *plant*."},
        {"role": "user", "content": "And a bush?"},
    ]
    assert server.closed
    (conversation,) = kept(path)
    assert conversation[:2] == [
        ("user", "What is a tree?", "complete"),
        ("assistant", "A tree is a *plant*.", "complete"),
    ]


async def test_what_it_cost_is_kept_with_the_answer(chatting: Chatting, path: Path) -> None:
    from edge.history import History

    async with chatting() as chat:
        await chat.say("Hello")
        await chat.until_answered()
    history = History.open(path)
    answer = history.load(history.conversations()[0].id)[-1]
    history.close()
    assert answer.model == INFO.name
    assert answer.facts["completion_tokens"] == 8
    assert answer.facts["predicted_ms"] == 125.0


async def test_a_message_typed_before_the_model_is_ready_goes_out_then(chatting: Chatting) -> None:
    loading = Pause()
    server = ScriptedServer(
        connects=[[Starting("starting", 0.0), Starting("loading", 0.4), loading]]
    )
    async with chatting(server) as chat:
        await loading.reached.wait()
        await chat.until(lambda: chat.state == "loading 40 %")
        await chat.say("Hello")
        await chat.pilot.pause()
        assert "▌ Hello" in chat.text
        assert not server.asked
        loading.go_on.set()
        await chat.until_answered()
        assert "A tree is a plant." in chat.text
    assert server.connections == 1


async def test_how_far_loading_is_stands_below_the_waiting_message(chatting: Chatting) -> None:
    first, second = Pause(), Pause()
    server = ScriptedServer(connects=[[first, Starting("loading", 0.5), second]])
    async with chatting(server) as chat:
        await first.reached.wait()
        await chat.say("Hello")
        await chat.pilot.pause()
        first.go_on.set()
        await second.reached.wait()
        await chat.until_shown("Loading the model; your message is next")
        assert "█" * 5 in chat.text
        second.go_on.set()
        await chat.until_answered()
        assert "Loading" not in chat.text


async def test_reading_a_long_text_shows_how_far_it_is(chatting: Chatting) -> None:
    pause = Pause()
    server = ScriptedServer([Progress(120, 900, 0), pause, *WORDS])
    async with chatting(server) as chat:
        await chat.say("Read this")
        await pause.reached.wait()
        await chat.until_shown("Reading your text")
        assert "120 / 900" in chat.text
        assert chat.state == "reading 120/900"
        pause.go_on.set()
        await chat.until_answered()
        assert "Reading your text" not in chat.text


async def test_waiting_for_others_is_told(chatting: Chatting) -> None:
    pause = Pause()
    async with chatting(ScriptedServer([Queued(3), pause, *WORDS])) as chat:
        await chat.say("Hello")
        await pause.reached.wait()
        await chat.until_shown("Questions before yours: 3")
        pause.go_on.set()
        await chat.until_answered()
        assert "Questions before" not in chat.text


async def test_escape_stops_the_answer_and_keeps_what_there_is(
    chatting: Chatting, path: Path
) -> None:
    pause = Pause()
    server = ScriptedServer([Delta("Once upon "), Delta("a time"), pause, Delta("never"), done()])
    async with chatting(server) as chat:
        await chat.say("Tell me a story")
        await pause.reached.wait()
        assert server.left == [1]
        await chat.pilot.press("escape")
        await chat.until_answered()
        assert "Once upon a time" in chat.text
        assert "Stopped." in chat.text
        assert chat.state == "ready"
        await chat.say("Go on")
        await chat.until_answered()
        assert "never" not in chat.text
        assert {"role": "assistant", "content": "Once upon a time"} in server.asked[1]
    assert server.left == [1]  # the stream was closed before its end
    assert ("assistant", "Once upon a time", "stopped") in kept(path)[0]


async def test_escape_before_the_first_word(chatting: Chatting, path: Path) -> None:
    pause = Pause()
    async with chatting(ScriptedServer([pause])) as chat:
        await chat.say("Hello")
        await pause.reached.wait()
        await chat.pilot.press("escape")
        await chat.until_answered()
        assert "Stopped." in chat.text
    assert kept(path) == [[("user", "Hello", "complete"), ("assistant", "", "stopped")]]


async def test_escape_while_the_model_starts_leaves_it_starting(chatting: Chatting) -> None:
    loading = Pause()
    server = ScriptedServer(connects=[[loading]])
    async with chatting(server) as chat:
        await chat.say("Hello")
        await loading.reached.wait()
        await chat.pilot.press("escape")
        await chat.until(lambda: "Stopped." in chat.text)
        loading.go_on.set()
        await chat.until(lambda: chat.state == "ready")
        await chat.say("Again")
        await chat.until_answered()
        assert "A tree is a plant." in chat.text
    assert server.connections == 1


async def test_nothing_is_sent_while_an_answer_is_written(chatting: Chatting) -> None:
    pause = Pause()
    server = ScriptedServer([Delta("One"), pause, done()])
    async with chatting(server) as chat:
        await chat.say("First")
        await pause.reached.wait()
        await chat.say("Second")
        assert chat.main.prompt.text == "Second"
        assert len(server.asked) == 1
        pause.go_on.set()
        await chat.until_answered()
        await chat.pilot.press("enter")
        await chat.until_answered()
        assert server.asked[1][-1]["content"] == "Second"


@pytest.mark.parametrize(
    "error",
    [
        EngineError("chat.cut-off"),
        ServerError("server.unreachable", address="http://x", reason="no"),
    ],
    ids=["engine", "server"],
)
async def test_a_dead_server_costs_one_answer(
    chatting: Chatting, path: Path, error: EngineError | ServerError
) -> None:
    server = ScriptedServer([Delta("Half an "), error])
    async with chatting(server) as chat:
        await chat.say("Hello")
        await chat.until_answered()
        assert "Half an" in chat.text
        assert str(error)[:40] in chat.text
        assert "Ctrl-R asks again" in chat.text
        assert server.connections == 1
        await chat.pilot.press("ctrl+r")
        await chat.until_answered()
        assert server.connections == 2
        assert "Half an" not in chat.text
        assert "A tree is a plant." in chat.text
    assert server.asked[1] == [{"role": "user", "content": "Hello"}]
    assert kept(path) == [
        [("user", "Hello", "complete"), ("assistant", "A tree is a *plant*.", "complete")]
    ]


async def test_a_broken_answer_is_kept_as_such(chatting: Chatting, path: Path) -> None:
    async with chatting(ScriptedServer([Delta("Half"), EngineError("chat.cut-off")])) as chat:
        await chat.say("Hello")
        await chat.until_answered()
    assert kept(path) == [[("user", "Hello", "complete"), ("assistant", "Half", "failed")]]


async def test_after_a_failure_another_question_may_follow(chatting: Chatting) -> None:
    server = ScriptedServer([EngineError("chat.cut-off")])
    async with chatting(server) as chat:
        await chat.say("First")
        await chat.until_answered()
        await chat.say("Second")
        await chat.until_answered()
    assert server.asked[1] == [{"role": "user", "content": "First\n\nSecond"}]


async def test_a_server_that_ended_meanwhile_is_reached_anew(chatting: Chatting) -> None:
    server = ScriptedServer()
    async with chatting(server) as chat:
        await chat.say("Hello")
        await chat.until_answered()
        server.dead.add(1)
        await chat.say("Again")
        await chat.until_answered()
        assert chat.text.count("A tree is a plant.") == 2
    assert server.connections == 2


async def test_a_server_that_others_start_again_is_reached_when_it_is_back(
    chatting: Chatting,
) -> None:
    error = ServerError("server.unreachable", address="http://x", reason="no route")
    late = [error], [error], []
    server = ScriptedServer([Delta("Half"), error], connects=late)
    async with chatting(server, again_s=0.05, tries=3) as chat:
        await chat.until(lambda: chat.state == "ready")
        assert "no route" not in chat.text, "a board starts its chat before its server"
        await chat.say("Hello")
        await chat.until_answered()
        await chat.until(lambda: server.connections == 4)
        await chat.until(lambda: chat.state == "ready")
    assert server.closed


async def test_a_server_of_others_that_does_not_come_is_told_once(chatting: Chatting) -> None:
    error = ServerError("server.unreachable", address="http://x", reason="no route")
    server = ScriptedServer(connects=[[error] for _ in range(70)])
    async with chatting(server, again_s=0.02, tries=60) as chat:
        await chat.until(lambda: server.connections > 2)
        assert chat.state == "connecting"
        assert chat.main.status_line.status.mood == "busy"
        await chat.until(lambda: chat.state == "no model")
        await chat.until(lambda: server.connections > 62)
        assert chat.text.count("no route") == 1
        await chat.until(lambda: chat.state == "ready")


async def test_a_server_with_another_model_is_not_waited_for(chatting: Chatting) -> None:
    error = ServerError("server.no-such-model", address="http://x", model="a", names="other-model")
    server = ScriptedServer(connects=[[error] for _ in range(4)])
    async with chatting(server, again_s=0.02, tries=60) as chat:
        await chat.until(lambda: "other-model" in chat.text and chat.state == "no model")
        told = chat.text
        await chat.until(lambda: server.connections > 3)
        assert chat.text == told, "once"


@pytest.mark.parametrize(
    "error",
    [
        EngineError("server.busy", most=64),
        ServerError("server.said", address="http://x", status=429, message="slow down"),
    ],
    ids=["ours", "another's"],
)
async def test_a_busy_server_is_still_there(
    chatting: Chatting, error: EngineError | ServerError
) -> None:
    server = ScriptedServer([error])
    async with chatting(server) as chat:
        await chat.say("Hello")
        await chat.until_answered()
        assert str(error)[:30] in chat.text
        assert chat.state == "ready"
        await chat.pilot.press("ctrl+r")
        await chat.until_answered()
        assert "A tree is a plant." in chat.text
    assert server.connections == 1


async def test_a_server_that_cannot_be_had_is_told_and_tried_again(chatting: Chatting) -> None:
    error = ServerError("server.unreachable", address="http://x", reason="no route")
    server = ScriptedServer(connects=[[error], [error]])
    async with chatting(server) as chat:
        await chat.until(lambda: chat.state == "no model")
        assert "no route" in chat.text
        await chat.say("Hello")
        await chat.until_answered()
        assert chat.state == "no model"
        assert chat.main.status_line.status.mood == "fault"
        await chat.pilot.press("ctrl+r")
        await chat.until_answered()
        assert chat.main.status_line.status.mood == "ready"
        assert "A tree is a plant." in chat.text
        assert chat.state == "ready"
    assert server.connections == 3


async def test_a_refused_message_goes_back_to_the_prompt_and_is_not_sent_again(
    chatting: Chatting, path: Path
) -> None:
    refusal = ContextFullError("server.prompt-too-long", tokens=9000, window=2048)
    server = ScriptedServer([refusal])
    async with chatting(server) as chat:
        await chat.say("Very long")
        await chat.until_answered()
        assert "9,000 tokens" in chat.text
        assert chat.main.prompt.text == "Very long"
        assert "Ctrl-R" not in str(chat.main.key_line.keys)
        chat.main.prompt.text = "Short"
        await chat.pilot.press("enter")
        await chat.until_answered()
        assert server.asked[1] == [{"role": "user", "content": "Short"}]
    assert server.connections == 1
    assert ("assistant", "", "failed") in kept(path)[0]


async def test_a_question_that_was_stopped_does_not_make_the_next_too_long(
    chatting: Chatting,
) -> None:
    pause = Pause()
    refusal = ContextFullError("server.prompt-too-long", tokens=9000, window=2048)
    server = ScriptedServer([Progress(10, 6000, 0), pause], [refusal], WORDS)
    async with chatting(server) as chat:
        await chat.say("Long")
        await pause.reached.wait()
        await chat.pilot.press("escape")
        await chat.until_answered()
        await chat.say("Another")
        await chat.until_answered()
        assert "they are left out" in chat.text
        assert "A tree is a plant." in chat.text
    both, alone = ([message["content"] for message in asked] for asked in server.asked[1:])
    assert (both, alone) == (["Long\n\nAnother"], ["Another"])


async def test_an_answer_that_a_filter_ends_is_told(chatting: Chatting) -> None:
    ended = replace(done(), reason="content_filter")
    async with chatting(ScriptedServer([Delta("Half"), ended])) as chat:
        await chat.say("Hello")
        await chat.until_answered()
        assert "content filter ended the answer" in chat.text


async def test_ctrl_c_stops_then_clears_then_leaves(chatting: Chatting) -> None:
    pause = Pause()
    async with chatting(ScriptedServer([Delta("Half"), pause])) as chat:
        await chat.say("Hello")
        await pause.reached.wait()
        chat.main.prompt.text = "A draft"
        await chat.pilot.press("ctrl+c")
        await chat.until_answered()
        assert (chat.main.prompt.text, chat.app.return_code) == ("A draft", None)
        await chat.pilot.press("ctrl+c")
        assert (chat.main.prompt.text, chat.app.return_code) == ("", None)
        await chat.pilot.press("ctrl+z")
        assert chat.main.prompt.text == "A draft"
        await chat.pilot.press("ctrl+c", "ctrl+c")
        assert chat.app.return_code == 0


async def test_an_answer_that_just_ends_is_an_error(chatting: Chatting) -> None:
    async with chatting(ScriptedServer([Delta("Half")])) as chat:
        await chat.say("Hello")
        await chat.until_answered()
        assert "ended the answer without saying why" in chat.text


async def test_what_the_server_lets_know_is_shown_above_the_answer(chatting: Chatting) -> None:
    notices = [
        Notice("server.turns-dropped", {"turns": 3, "window": 2048}),
        Notice("server.of-a-later-version", {}),
        Notice("../../etc/passwd.x", {}),
        Notice("server.turns-dropped", {}),
    ]
    async with chatting(ScriptedServer([*notices, *WORDS])) as chat:
        await chat.say("Hello")
        await chat.until_answered()
        lines = chat.text
        assert lines.index("window of 2,048 tokens") < lines.index("A tree is a plant.")
        assert "server.of-a-later-version" in lines
        assert "../../etc/passwd.x" in lines


@pytest.mark.parametrize(
    ("replies", "note"),
    [
        ([Delta("Long"), done(reason="length")], "reached its length limit"),
        ([done()], "The model had nothing to say"),
    ],
    ids=["length", "empty"],
)
async def test_how_an_answer_ended_is_told(
    chatting: Chatting, replies: list[Delta], note: str
) -> None:
    async with chatting(ScriptedServer(replies)) as chat:
        await chat.say("Hello")
        await chat.until_answered()
        assert note in chat.text


async def test_a_server_that_tells_little(chatting: Chatting) -> None:
    nothing = dict.fromkeys(
        ["prompt_tokens", "completion_tokens", "cached_tokens", "prompt_ms", "predicted_ms",
         "memory_bytes", "seed"]
    )  # fmt: skip
    server = ScriptedServer(
        [Delta("Yes"), done(**nothing)], info=ModelInfo("some-model", None, None, None)
    )
    async with chatting(server, url="http://example.org") as chat:
        assert "the server http://example.org, which receives what you write" in " ".join(
            chat.text.split()
        )
        await chat.say("Hello")
        await chat.until_answered()
        assert chat.state == "ready"
        assert chat.main.status_line.status.speed is None


async def test_a_new_conversation_forgets_the_last(chatting: Chatting, path: Path) -> None:
    server = ScriptedServer()
    async with chatting(server, system="Be brief.") as chat:
        await chat.say("First")
        await chat.until_answered()
        await chat.pilot.press("ctrl+n")
        assert "First" not in chat.text
        assert "You are talking to an AI" in chat.text
        await chat.say("Second")
        await chat.until_answered()
    system = {"role": "system", "content": "Be brief."}
    assert server.asked == [
        [system, {"role": "user", "content": "First"}],
        [system, {"role": "user", "content": "Second"}],
    ]
    assert [c[1][1] for c in kept(path)] == ["Second", "First"]


async def test_a_new_conversation_stops_the_answer_of_the_old(
    chatting: Chatting, path: Path
) -> None:
    pause = Pause()
    server = ScriptedServer([Delta("Half"), pause])
    async with chatting(server) as chat:
        await chat.say("First")
        await pause.reached.wait()
        await chat.pilot.press("ctrl+n")
        await chat.until_answered()
        assert "Half" not in chat.text
    assert kept(path) == [[("user", "First", "complete"), ("assistant", "Half", "stopped")]]


async def test_leaving_in_mid_answer_saves_it(chatting: Chatting, path: Path) -> None:
    pause = Pause()
    server = ScriptedServer([Delta("Half"), pause])
    async with chatting(server) as chat:
        await chat.say("Hello")
        await pause.reached.wait()
        await chat.pilot.press("ctrl+q")
        assert chat.app.return_code == 0
    assert server.closed
    assert kept(path) == [[("user", "Hello", "complete"), ("assistant", "Half", "stopped")]]


async def test_an_answer_is_saved_while_it_is_written(
    chatting: Chatting, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tui.chat_screen._CHECKPOINT_S", 0.02)
    first, second = Pause(), Pause()
    async with chatting(ScriptedServer([first, Delta("So far"), second, done()])) as chat:
        await chat.say("Hello")
        await first.reached.wait()
        await chat.until(lambda: path.exists() and kept(path) and len(kept(path)[0]) == 2)
        first.go_on.set()
        await chat.until(lambda: kept(path)[0][1] == ("assistant", "So far", "writing"))
        second.go_on.set()
        await chat.until_answered()


async def test_a_crash_of_the_screen_loses_nothing(chatting: Chatting, path: Path) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    pause = Pause()
    with pytest.raises(ZeroDivisionError):  # noqa: PT012 - it comes out of the app's own end
        async with chatting(ScriptedServer([Delta("Half"), pause])) as chat:
            await chat.say("Hello")
            await pause.reached.wait()
            chat.app.call_next(fail)
            await chat.pilot.pause()
    assert kept(path)[0][1] == ("assistant", "Half", "stopped")


def news(folder: Path, **texts: str) -> Notices:
    """Notices that have been looked at once, as the command does it."""
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    notices = Notices(folder)
    notices.look()
    return notices


async def test_what_the_machine_has_to_tell_stands_below_what_is_reopened(
    chatting: Chatting, home: Path
) -> None:
    async with chatting() as chat:
        await chat.say("Hello")
        await chat.until_answered()
    (home / "news").mkdir()
    told = news(home / "news", wlan="Wi-Fi “Lucie”\npassword of 8", stick="A stick")
    async with chatting(resume=True, board=Board(notices=told)) as chat:
        await chat.until(lambda: "A tree is a plant." in chat.text)
        assert chat.text.index("A tree is a plant.") < chat.text.index("A stick")
        assert chat.text.index("A stick") < chat.text.index("Wi-Fi “Lucie”"), "by name"
        await chat.pilot.press("ctrl+n")
        await chat.until(lambda: "A tree is a plant." not in chat.text)
        assert "password of 8" in chat.text


async def test_what_it_tells_later_comes_above_the_answer_that_grows(
    chatting: Chatting, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tui.board._EVERY_S", 0.01)
    folder, pause = home / "news", Pause()
    folder.mkdir()
    server = ScriptedServer([Delta("Half"), pause, *WORDS])
    async with chatting(server, board=Board(notices=news(folder, a="One"))) as chat:
        await chat.say("Hello")
        await pause.reached.wait()
        (folder / "b").write_text("Two", encoding="utf-8")
        await chat.until_shown("Two")
        assert chat.text.index("One") < chat.text.index("Two") < chat.text.index("Half")
        pause.go_on.set()
        await chat.until_shown("A tree is a plant.")
        assert chat.text.count("One") == chat.text.count("Two") == 1
        (folder / "b").unlink()
        (folder / "a").write_text("One more", encoding="utf-8")
        await chat.until_shown("One more")
        await chat.pilot.press("ctrl+n")
        await chat.until(lambda: "Hello" not in chat.text)
        assert "Two" not in chat.text


async def test_notices_that_cannot_be_read_are_told_once_and_looked_for_again(
    chatting: Chatting, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tui.board._EVERY_S", 0.01)
    looks: list[object] = []

    def refuse(notices: object) -> None:
        looks.append(notices)
        raise UsageError("chat.no-notice", path="news", reason="Input/output error")

    (home / "news").mkdir()
    notices = news(home / "news")
    async with chatting(board=Board(notices=notices)) as chat:
        for times in (1, 2):
            with monkeypatch.context() as failing:
                failing.setattr(Notices, "look", refuse)
                looks.clear()
                await chat.until(lambda: len(looks) > 3)
                assert chat.text.count("Input/output error") == times
            (home / "news" / str(times)).write_text(f"Notice {times}", encoding="utf-8")
            await chat.until_shown(f"Notice {times}")
