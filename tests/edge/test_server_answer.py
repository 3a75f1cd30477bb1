"""Scheduler events to text, log-probabilities and chunks."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from typing import Any

import pytest

from edge.engine import Sampled
from edge.errors import EngineError
from edge.request import Event, Failed, Finished, Prefilled, Request, Timings, Token
from edge.server import mailbox
from edge.server.answer import Answer, timings_body, usage_body
from edge.server.logprobs import ChatLogprobs, LegacyLogprobs
from edge.server.mailbox import EventStream, Mailbox
from edge.server.sse import ChunkWriter
from edge.text import StreamDecoder, TextStream
from edge.ticket import Ticket
from tests.edge.scripted_server import Letters

TIMINGS = Timings(cache_n=2, prompt_n=1, prompt_ms=10.0, predicted_n=4, predicted_ms=20.0)


def tokens(text: str | bytes) -> list[Event]:
    data = text.encode() if isinstance(text, str) else text
    return [Token(Sampled(byte, -0.25, ((byte, -0.25), (120, -2.0)))) for byte in data]


def answer(*stop: str, logprobs: ChatLogprobs | LegacyLogprobs | None = None) -> Answer:
    return Answer(Letters(), 3, stop, logprobs)


def finished(reason: Any = "stop") -> Finished:
    return Finished(reason, TIMINGS, 7)


def test_text_comes_as_it_is_chosen_and_characters_are_whole() -> None:
    growing = answer()
    seen = []
    for event in tokens("é😀!"):
        growing.feed([event])
        seen.append(growing.take()[0])
    assert seen == ["", "é", "", "", "", "😀", "!"]
    growing.feed([finished("length")])
    assert (growing.reason, growing.timings) == ("length", TIMINGS)


def test_a_character_that_stays_incomplete_is_told_at_the_end() -> None:
    growing = answer()
    growing.feed([*tokens(b"a\xc3"), finished()])
    assert growing.take() == ("a\ufffd", None)


class _Spaces(Letters):
    """A tokenizer that takes spaces away that it had put there."""

    def stream(self) -> TextStream:
        return StreamDecoder(_NoSpaces())


class _NoSpaces(Letters):
    def piece(self, token: int) -> bytes:
        return super().piece(token).replace(b" ", b"")


def test_the_text_of_a_constrained_answer_is_what_the_constraint_has_seen() -> None:
    for constrained, text in ((False, '["«ça»"]'), (True, '["« ça »"]')):
        growing = Answer(_Spaces(), 3, (), None, constrained=constrained)
        growing.feed([*tokens('["« ça »"]'), finished()])
        assert growing.take()[0] == text


def test_a_stop_string_over_several_tokens_is_not_shown_and_ends_the_answer() -> None:
    growing = answer("STOP", "\n\n")
    growing.feed([Prefilled(3, 3, 1), *tokens("some ST")])
    assert growing.take()[0] == "some "
    growing.feed(tokens("OP and more"))
    assert growing.take()[0] == ""
    assert growing.reason == "stop"
    assert growing.n_tokens == len("some STOP")
    assert growing.timings is not None
    assert (growing.timings.cache_n, growing.timings.prompt_n) == (1, 2)
    assert growing.timings.predicted_n == growing.n_tokens


def test_what_only_looked_like_a_stop_string_is_told_at_the_end() -> None:
    growing = answer("STOP")
    growing.feed([*tokens("STO"), finished()])
    assert growing.take()[0] == "STO"


def test_a_failure_is_kept_beside_the_text_so_far() -> None:
    growing = answer()
    growing.feed([*tokens("ab"), Failed(EngineError("server.stopping"))])
    assert growing.take()[0] == "ab"
    assert growing.reason is None
    assert growing.error is not None


def test_logprobs_come_with_the_text_of_their_tokens() -> None:
    growing = answer("xyz", logprobs=ChatLogprobs(Letters()))
    growing.feed(tokens("abx"))
    text, logprobs = growing.take()
    assert text == "ab"
    assert logprobs is not None
    assert [entry["token"] for entry in logprobs["content"]] == ["a", "b"]
    first = logprobs["content"][0]
    assert (first["logprob"], first["bytes"]) == (-0.25, [97])
    assert [entry["token"] for entry in first["top_logprobs"]] == ["a", "x"]
    growing.feed(tokens("yz"))
    assert growing.take() == ("", None)


def test_legacy_logprobs_count_characters() -> None:
    growing = answer(logprobs=LegacyLogprobs(Letters()))
    growing.feed(tokens("ab"))
    first = growing.take()[1]
    growing.feed(tokens("c"))
    second = growing.take()[1]
    assert first is not None
    assert second is not None
    assert first["tokens"] + second["tokens"] == ["a", "b", "c"]
    assert first["text_offset"] + second["text_offset"] == [0, 1, 2]
    assert second["top_logprobs"] == [{"c": -0.25, "x": -2.0}]


def test_an_impossible_token_has_a_finite_logprob() -> None:
    told = ChatLogprobs(Letters()).format([Sampled(97, float("-inf"), ())])
    assert json.dumps(told, allow_nan=False)


def test_usage_and_timings_are_named_as_others_name_them() -> None:
    growing = answer()
    growing.feed([*tokens("abc"), finished()])
    assert usage_body(growing) == {
        "prompt_tokens": 3,
        "completion_tokens": 4,
        "total_tokens": 7,
        "prompt_tokens_details": {"cached_tokens": 2},
    }
    assert timings_body(TIMINGS)["predicted_per_second"] == 200.0
    assert timings_body(Timings(0, 0, 0.0, 0, 0.0))["prompt_per_second"] == 0.0


@pytest.mark.parametrize("chat", [True, False])
@pytest.mark.parametrize("include_usage", [True, False])
def test_every_chunk_is_json_with_the_fields_of_its_kind(chat: bool, include_usage: bool) -> None:
    writer = ChunkWriter(
        chat=chat,
        answer_id="id",
        created=5,
        model='m"\\',
        fingerprint="f",
        include_usage=include_usage,
    )
    text = 'a"\n\u2028 é😀\x00'
    written = [
        *([writer.role()] if chat else []),
        writer.text(text, None, 1),
        writer.text(text, {"content": []}, 2),
        writer.finish("length", {"timings": {"x": 1}}),
    ]
    assert not any(b"lucie" in part for part in written), "ours only where they are asked for"
    chunks = [json.loads(part.removeprefix(b"data: ")) for part in written]
    for part, chunk in zip(written, chunks, strict=True):
        assert part.endswith(b"\n\n")
        assert part.count(b"\n") == 2
        assert (chunk["model"], chunk["id"], chunk["created"]) == ('m"\\', "id", 5)
        assert ("usage" in chunk) == include_usage
        assert len(chunk["choices"]) == 1
    last = chunks[-1]
    assert last["choices"][0]["finish_reason"] == "length"
    assert last["timings"] == {"x": 1}
    said = chunks[-3]["choices"][0]
    assert (said["delta"]["content"] if chat else said["text"]) == text
    assert chunks[-2]["choices"][0]["logprobs"] == {"content": []}
    assert bool(writer.usage({"total_tokens": 1})) == include_usage


class Script:
    """A scheduler that only notes what it is asked."""

    def __init__(self) -> None:
        self.emit: Callable[[Event], None] | None = None
        self.cancelled = 0

    def submit(self, request: Request, emit: Callable[[Event], None]) -> Ticket:
        self.emit = emit
        return Ticket(request, emit)

    def cancel(self, ticket: Ticket) -> None:
        self.cancelled += 1


def opened() -> tuple[Script, EventStream]:
    script = Script()
    stream = EventStream(script, Mailbox(asyncio.get_running_loop()))
    stream.start(Request([1], 1))
    return script, stream


def post(script: Script, events: list[Event]) -> None:
    """From another thread, as the engine does."""
    assert script.emit is not None
    thread = threading.Thread(target=lambda: [script.emit(event) for event in events])
    thread.start()
    thread.join()


async def test_all_that_has_arrived_comes_in_one_batch() -> None:
    script, stream = opened()
    post(script, tokens("abc"))
    assert len(await stream.batch()) == 3
    waiting = asyncio.create_task(stream.batch())
    await asyncio.sleep(0)
    post(script, tokens("d"))
    assert await waiting == tokens("d")
    stream.close()


async def test_nothing_is_lost_between_threads() -> None:
    script, stream = opened()
    sent = tokens("0123456789" * 200)
    thread = threading.Thread(target=lambda: [script.emit(event) for event in sent])
    thread.start()
    got: list[Event] = []
    while len(got) < len(sent):
        got += await stream.batch()
    thread.join()
    assert got == sent
    stream.close()


async def test_a_token_after_a_pause_is_not_kept_waiting() -> None:
    script, stream = opened()
    for letter in "ab":
        post(script, tokens(letter))
        async with asyncio.timeout(10):
            assert await stream.batch() == tokens(letter)
        await asyncio.sleep(3 * mailbox.INTERVAL)
    stream.close()


async def test_who_leaves_ends_the_wait_and_the_request() -> None:
    script, stream = opened()
    waiting = asyncio.create_task(stream.batch())
    await asyncio.sleep(0)
    stream.leave()
    assert await waiting == []
    assert stream.gone
    stream.close()
    assert script.cancelled == 1
    post(script, tokens("late"))
    await asyncio.sleep(0.01)
    assert await stream.batch() == []


async def test_a_client_that_does_not_read_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mailbox, "MAX_UNREAD", 10)
    script, stream = opened()
    post(script, tokens("x" * 50))
    (event,) = await stream.batch()
    assert isinstance(event, Failed)
    assert event.error.code == "server.too-slow"
    assert script.cancelled == 1


async def test_silence_is_told_by_an_empty_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mailbox, "SILENCE", 0.05)
    _, stream = opened()
    assert await stream.batch() == []
    assert not stream.gone
    stream.close()
