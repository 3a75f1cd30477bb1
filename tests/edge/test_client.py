"""The client of our own programs, against our server and against others."""

from __future__ import annotations

import asyncio
import errno
import gzip
import json
import os
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from edge import http_client
from edge.client import Delta, Done, Message, Notice, Progress, Queued, Reply
from edge.errors import (
    ContextFullError,
    EngineError,
    LucieError,
    MemoryRefusedError,
    ServerError,
    UsageError,
)
from edge.http_client import HttpClient
from edge.http_reason import reason_of
from edge.reply_reader import error_told
from tests.edge.servers import Running, scripted, until

HELLO: list[Message] = [{"role": "user", "content": "Hello"}]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with scripted(tmp_path_factory.mktemp("s"), "--step-ms", "5") as running:
        yield running


async def ask(client: HttpClient, messages: list[Message] = HELLO, **options: Any) -> list[Reply]:
    async with aclosing(client.chat(messages, options)) as replies:
        return [reply async for reply in replies]


async def at_first_text(client: HttpClient, do: Callable[[], object]) -> None:
    """Ask for a long answer, and do something once it has begun."""
    async with aclosing(client.chat(HELLO, {"max_tokens": 4000})) as replies:
        async for reply in replies:
            if isinstance(reply, Delta):
                do()


def said(replies: list[Reply]) -> str:
    return "".join(reply.text for reply in replies if isinstance(reply, Delta))


async def test_a_server_that_runs_another_model_is_not_the_one_that_was_reached(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = HttpClient(server.address)
    await client.info()
    assert await client.alive()
    health = await client.health()
    assert health is not None
    other = replace(health, info=replace(health.info, name="other"))

    async def now() -> http_client.Health:
        return other

    monkeypatch.setattr(client, "health", now)
    assert not await client.alive()
    await client.info()
    assert await client.alive()
    await client.aclose()


async def test_our_server_tells_progress_text_and_costs(server: Running) -> None:
    client = HttpClient(server.address)
    info = await client.info()
    assert (info.name, info.n_ctx, info.n_params) == ("letters", 4096, 1000)
    assert info.memory_bytes is not None
    assert info.memory_bytes > 10_000_000
    replies = await ask(client, [{"role": "user", "content": "x" * 500}], max_tokens=30, seed=9)
    assert any(isinstance(reply, Progress) and reply.total > 500 for reply in replies)
    assert said(replies) == "abcdefghijklmnopqrstuvwxyzabcd"
    done = replies[-1]
    assert isinstance(done, Done)
    assert (done.reason, done.completion_tokens, done.seed) == ("length", 30, 9)
    assert done.prompt_tokens is not None
    assert done.prompt_ms is not None
    assert done.predicted_ms is not None
    assert done.cached_tokens == 0
    await client.aclose()


async def test_dropped_turns_are_a_notice(server: Running) -> None:
    turns: list[Message] = []
    for _ in range(3):
        turns += [
            {"role": "user", "content": "u" * 1500},
            {"role": "assistant", "content": "a" * 100},
        ]
    client = HttpClient(server.address)
    replies = await ask(client, [*turns, *HELLO], max_tokens=1)
    (notice,) = [reply for reply in replies if isinstance(reply, Notice)]
    assert notice.code == "server.turns-dropped"
    await client.aclose()


async def test_who_waits_for_a_place_hears_of_it(server: Running) -> None:
    client = HttpClient(server.address)
    others = [asyncio.create_task(ask(client, max_tokens=4000)) for _ in range(4)]
    while server.health()["active"] < 4:
        await asyncio.sleep(0.02)
    asking = asyncio.create_task(ask(client, max_tokens=1))
    while server.health()["waiting"] == 0:
        await asyncio.sleep(0.02)
    others[0].cancel()
    replies = await asking
    assert replies[0] == Queued(0)
    assert said(replies) == "a"
    for other in others:
        other.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await client.aclose()


async def test_leaving_the_answer_stops_it(server: Running) -> None:
    client = HttpClient(server.address)
    async with aclosing(client.chat(HELLO, {"max_tokens": 4000})) as replies:
        async for reply in replies:
            if isinstance(reply, Delta):
                break
    until(lambda: server.health()["active"] == 0)
    await client.aclose()


async def test_a_cancelled_task_stops_its_answer(server: Running) -> None:
    client = HttpClient(server.address)
    task = asyncio.create_task(ask(client, max_tokens=4000))
    while server.health()["active"] == 0:
        await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    until(lambda: server.health()["active"] == 0)
    await client.aclose()


async def test_what_our_server_refuses_is_said_in_the_users_language(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LUCIE_LANG", "fr")
    client = HttpClient(server.address)
    with pytest.raises(UsageError, match="ne connaît pas le paramètre foo"):
        await ask(client, foo=1)
    with pytest.raises(UsageError) as caught:
        await ask(client, [{"role": "user", "content": "x" * 6000}])
    assert caught.value.code == "prompt.context-full"
    await client.aclose()


@pytest.mark.parametrize("kill", [True, False])
async def test_a_server_that_dies_is_an_engine_error(tmp_path: Path, kill: bool) -> None:
    with scripted(tmp_path, "--step-ms", "20") as server:
        client = HttpClient(server.address)
        end = server.process.kill if kill else server.process.terminate
        with pytest.raises(EngineError) as caught:
            await at_first_text(client, end)
        assert caught.value.code == ("server.broken-off" if kill else "server.stopping")
        server.process.wait()
        with pytest.raises(ServerError, match="No server answers"):
            await client.info()
        await client.aclose()


async def test_a_server_that_hangs_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_client, "_SILENCE_S", 2)
    with scripted(tmp_path, "--step-ms", "3000", "--silence", "0.1") as server:
        client = HttpClient(server.address)
        # A step longer than the patience is no reason to give up: the server says it is alive.
        assert said(await ask(client, max_tokens=1)) == "a"
        await client.aclose()
    with scripted(tmp_path, "--step-ms", "4000") as server:
        client = HttpClient(server.address)
        with pytest.raises(EngineError, match="silent"):
            await ask(client, max_tokens=1)
        await client.aclose()


async def test_a_loading_server_says_so(tmp_path: Path) -> None:
    with scripted(tmp_path, "--load-s", "30", ready=False) as server:
        client = HttpClient(server.address)
        health = await client.health()
        assert health is not None
        assert not health.ready
        with pytest.raises(EngineError, match="still being loaded"):
            await client.info()
        await client.aclose()


# -- servers of others ----------------------------------------------------------------


@dataclass
class Foreign:
    """A server that answers each path with the same bytes, and keeps what it was sent."""

    replies: dict[str, bytes]
    url: str = ""
    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[str] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.headers.append(head)
        length = [int(x[15:]) for x in head.lower().split("\r\n") if x.startswith("content-length")]
        if length:
            self.bodies.append(json.loads(await reader.readexactly(length[0])))
        writer.write(self.replies.get(head.split()[1], http(404, b"no", "text/plain")))
        writer.close()


def http(status: int, body: bytes, kind: str = "application/json") -> bytes:
    head = f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nConnection: close\r\n\r\n"
    return head.encode() + body


def events(*chunks: Any) -> bytes:
    lines = [c if isinstance(c, str) else json.dumps(c) for c in chunks]
    return http(200, "".join(f"data: {x}\n\n" for x in lines).encode(), "text/event-stream")


MODELS = http(200, json.dumps({"data": [{"id": "other", "max_model_len": 99}]}).encode())
CHUNK = {"choices": [{"delta": {"content": "hé"}}]}
END = {"choices": [{"delta": {}, "finish_reason": "stop"}]}


@asynccontextmanager
async def foreign(chat: bytes = b"", **replies: bytes) -> AsyncIterator[Foreign]:
    known = {"/v1/models": MODELS, "/v1/chat/completions": chat}
    known |= {f"/{name.replace('_', '/')}": reply for name, reply in replies.items()}
    other = Foreign(known)
    server = await asyncio.start_server(other.serve, "127.0.0.1", 0)
    other.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield other


@pytest.mark.parametrize("suffix", ["", "/v1", "/v1/"])
@pytest.mark.parametrize(
    "health",
    [
        http(404, b"", "text/plain"),
        http(200, b"OK", "text/plain"),
        http(200, b'{"status":"ok"}'),
        http(200, b"[]"),
        http(200, b"<html>", "text/html"),
    ],
)
async def test_others_are_asked_for_nothing_of_ours(
    suffix: str, health: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(http_client.KEY_VARIABLE, "sesame")
    chat = events(CHUNK, END, {"choices": [], "usage": {"prompt_tokens": 4}}, "[DONE]")
    async with foreign(chat, health=health) as other:
        client = HttpClient(other.url + suffix)
        assert (await client.info()).n_ctx == 99
        replies = await ask(client, temperature=0)
        assert said(replies) == "hé"
        assert replies[-1] == Done("stop", 4, None, None, None, None, None, None)
        (body,) = other.bodies
        assert "lucie" not in body
        assert (body["model"], body["temperature"]) == ("other", 0)
        assert all("Bearer sesame" in head for head in other.headers)
        await client.aclose()


@pytest.mark.parametrize(
    ("chat", "kind", "message"),
    [
        (events(CHUNK), ServerError, "broke"),
        (events(CHUNK, {"error": {"message": "too hot"}}), ServerError, "too hot"),
        (events("{"), ServerError, "not as an OpenAI"),
        (events("[1]"), ServerError, "not as an OpenAI"),
        (http(200, b"{}"), ServerError, "not as an OpenAI"),
        (http(400, b'{"error": {"message": "no such field"}}'), ServerError, "no such field"),
        (http(500, b"<html>"), ServerError, "500"),
        (
            http(401, b'{"error": "key"}'),
            ServerError,
            "wants a key .*LUCIE_API_KEY",
        ),
        (http(403, b'{"error": "no"}'), ServerError, r"refused \(HTTP 403\): no"),
        (http(500, b"<html>Oops</html>"), ServerError, r"answered with an error \(HTTP 500\)"),
        (http(429, b"[" * 100_000), ServerError, "429"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", ServerError, "broke|not as"),
        (b"", ServerError, "broke"),
    ],
)
async def test_what_others_do_wrong_is_told(
    chat: bytes, kind: type[LucieError], message: str
) -> None:
    async with foreign(chat) as other:
        client = HttpClient(other.url)
        with pytest.raises(kind, match=message):
            await ask(client)
        await client.aclose()


async def test_odd_chunks_of_others_are_passed_over() -> None:
    odd: list[Any] = [
        {},
        {"choices": None},
        {"choices": []},
        {"choices": [5]},
        {"choices": [{"delta": {"content": None}}]},
        {"choices": [{"delta": {"content": 7, "reasoning_content": "x"}}]},
        {"choices": [{"text": "x"}], "usage": None},
        {"lucie": {"seed": "x"}, "timings": 5},
    ]
    async with foreign(events(*odd, CHUNK, END)) as other:
        client = HttpClient(other.url)
        replies = await ask(client)
        assert said(replies) == "hé"
        await client.aclose()


@pytest.mark.parametrize("models", [b"{}", b'{"data": []}', b'{"data": [{}]}', b'{"data": [3]}'])
async def test_a_server_without_a_model_is_of_no_use(models: bytes) -> None:
    async with foreign(v1_models=http(200, models)) as other:
        client = HttpClient(other.url)
        with pytest.raises(ServerError):
            await client.info()
        await client.aclose()


@pytest.mark.parametrize("address", ["", "unix:", "ftp://x", "localhost:8080", "http://", "x" * 9])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(UsageError, match="address"):
        HttpClient(address)


async def test_nobody_there(tmp_path: Path) -> None:
    for address in (f"unix:{tmp_path}/none", "http://127.0.0.1:9"):
        client = HttpClient(address)
        with pytest.raises(ServerError, match="No server answers"):
            await client.info()
        await client.aclose()


async def test_that_nobody_is_there_is_told_in_french(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LUCIE_LANG", "fr")
    client = HttpClient("http://127.0.0.1:9")
    with pytest.raises(ServerError, match="n’a abouti"):
        await client.info()
    await client.aclose()


def test_a_time_that_ran_out_is_a_reason() -> None:
    assert reason_of(httpx.ConnectTimeout("")) == os.strerror(errno.ETIMEDOUT)


SEVERAL = http(
    200, json.dumps({"data": [{"id": "embed"}, {"id": "talk", "max_model_len": 7}]}).encode()
)


@pytest.mark.parametrize(("model", "asked"), [(None, "embed"), ("talk", "talk")])
async def test_of_several_models_one_is_asked_by_name(model: str | None, asked: str) -> None:
    async with foreign(events(CHUNK, END), v1_models=SEVERAL) as other:
        client = HttpClient(other.url, model=model)
        info = await client.info()
        assert (info.name, info.n_ctx) == (asked, 7 if model else None)
        await ask(client)
        assert other.bodies[0]["model"] == asked
        await client.aclose()


async def test_a_model_that_a_server_has_not_is_told_with_those_that_it_has() -> None:
    many = http(200, json.dumps({"data": [{"id": f"m\n{n}"} for n in range(999)]}).encode())
    for models, told in (
        (SEVERAL, "no model called x. It has: embed, talk"),
        (many, "m 0, m 1, .*…"),
    ):
        async with foreign(v1_models=models) as other:
            client = HttpClient(other.url, model="x")
            with pytest.raises(ServerError, match=told) as caught:
                await client.info()
            assert len(str(caught.value)) < 700
            await client.aclose()


async def test_our_server_has_one_model(server: Running) -> None:
    named, other = (HttpClient(server.address, model=name) for name in ("letters", "x"))
    assert (await named.info()).name == "letters"
    with pytest.raises(ServerError, match=r"no model called x\. It has: letters"):
        await other.info()
    await named.aclose()
    await other.aclose()


@pytest.mark.parametrize(
    "lucie",
    [
        {"code": "../../x.y", "facts": {}},
        {"code": "nosubject.entry", "facts": {}},
        {"code": "server.no-such-entry", "facts": {}},
        {"code": "server.busy", "facts": {}},
        {"code": "server.busy", "facts": {"most": 1, "folder": "/etc"}},
        {"code": "server.busy", "facts": {"most": 1, "lang": "xx"}},
        {"code": "server.busy", "facts": []},
        {"code": 5, "facts": {}},
        {},
    ],
)
def test_an_error_that_we_cannot_say_is_said_in_the_servers_words(lucie: dict[str, Any]) -> None:
    error = error_told(500, {"error": {"message": "its own words"}, "lucie": lucie}, "there")
    assert "its own words" in str(error)


def test_an_error_of_ours_keeps_its_kind() -> None:
    lucie = {"code": "server.busy", "facts": {"most": 3}, "status": 503}
    assert isinstance(error_told(200, {"lucie": lucie}, "there"), EngineError)
    assert isinstance(error_told(507, {"lucie": {**lucie, "status": None}}, ""), MemoryRefusedError)
    assert not isinstance(error_told(400, {"lucie": lucie}, ""), ContextFullError)


# -- what another server may not do to us -----------------------------------------------


async def foreign_answer(answer: bytes) -> list[Reply]:
    async with foreign(answer) as other:
        client = HttpClient(other.url)
        try:
            return await ask(client)
        finally:
            await client.aclose()


def flood(pieces: int, size: int) -> bytes:
    chunk = {"choices": [{"delta": {"content": "x" * size}}]}
    return events(*[chunk] * pieces, END)


STREAM = events(CHUNK, END).partition(b"\r\n\r\n")[2]


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        # Both would be well understood, were they read.
        (events(CHUNK | {"padding": "x" * 3_000_000}, END), "server.not-understood"),
        (flood(40, 50_000), "server.endless"),
        (
            http(200, gzip.compress(STREAM), "text/event-stream").replace(
                b"Connection", b"Content-Encoding: gzip\r\nConnection"
            ),
            "server.not-understood",
        ),
    ],
)
async def test_no_answer_fills_our_memory(answer: bytes, code: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(ServerError) as caught:
            await foreign_answer(answer)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert caught.value.code == code
    assert most < 24_000_000, "the server's own copy of what it sends included"


async def test_half_of_a_surrogate_pair_is_told_as_such() -> None:
    half = {"choices": [{"delta": {"content": "a\ud800b \U0001f600"}}]}
    replies = await foreign_answer(events(half, END))
    assert said(replies) == "a\ufffdb \U0001f600"


@pytest.mark.parametrize("key", ["é", "a\nb", "\x7f"])
def test_a_key_that_cannot_be_sent_is_refused(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv("LUCIE_API_KEY", key)
    with pytest.raises(UsageError, match="LUCIE_API_KEY holds no key"):
        HttpClient("http://127.0.0.1:1")
