"""The server process over a scripted engine: clients that leave, hostile bytes, its own end."""

from __future__ import annotations

import json
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from edge.errors import ServerError, UsageError
from edge.server.listen import MAX_SOCKET_PATH, listen_tcp, listen_unix
from tests.edge.servers import SCRIPTED, Running, answers, read_all, request, scripted, until

CHAT = "/v1/chat/completions"
HELLO = {"messages": [{"role": "user", "content": "Hello"}]}
CLOSE = "Connection: close"
LONG = {**HELLO, "max_tokens": 100_000}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with scripted(tmp_path_factory.mktemp("s"), "--step-ms", "2", "--n-ctx", "60000") as running:
        yield running


def stream(server: Running, body: dict[str, Any], path: str = CHAT) -> list[tuple[str, Any]]:
    """Names and data of all events."""
    text = server.post(path, {**body, "stream": True}).text
    events = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines())
        if "data" in fields:
            data = fields["data"]
            parsed = data if data == "[DONE]" else json.loads(data)
            events.append((fields.get("event", ""), parsed))
    return events


def test_an_answer_in_one_piece(server: Running) -> None:
    body = server.post(CHAT, {**HELLO, "max_tokens": 5, "seed": 3}).json()
    assert body["object"] == "chat.completion"
    (choice,) = body["choices"]
    assert choice["message"] == {"role": "assistant", "content": "abcde"}
    assert choice["finish_reason"] == "length"
    assert body["usage"]["completion_tokens"] == 5
    assert body["timings"]["predicted_n"] == 5
    assert "lucie" not in body


def test_a_streamed_answer_has_openais_chunks_and_nothing_else(server: Running) -> None:
    events = stream(server, {**HELLO, "max_tokens": 5, "stream_options": {"include_usage": True}})
    assert {name for name, _ in events} == {""}
    assert events[-1][1] == "[DONE]"
    chunks = [data for _, data in events[:-1]]
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    said = [c["choices"][0]["delta"].get("content", "") for c in chunks if c["choices"]]
    assert "".join(said) == "abcde"
    assert chunks[-2]["choices"][0]["finish_reason"] == "length"
    assert chunks[-2]["timings"]["predicted_n"] == 5
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["total_tokens"] == chunks[-1]["usage"]["prompt_tokens"] + 5
    assert all("lucie" not in chunk for chunk in chunks)


def test_our_own_events_come_where_they_are_asked_for(server: Running) -> None:
    long = {"messages": [{"role": "user", "content": "x" * 1000}], "max_tokens": 2}
    events = stream(server, {**long, "seed": 5, "lucie": {"events": True}})
    progress = [data for name, data in events if name == "lucie.progress"]
    assert progress
    assert progress[-1]["done"] <= progress[-1]["total"]
    *grown, last = [data for _, data in events if isinstance(data, dict) and "lucie" in data]
    assert [chunk["lucie"] for chunk in grown][-1] == {"tokens": 2}
    assert last["lucie"]["seed"] == 5
    assert last["lucie"]["context"]["used"] > 1000
    assert last["lucie"]["memory_bytes"] > 10_000_000


def test_who_waits_for_a_place_hears_how_many_are_before(tmp_path: Path) -> None:
    asked = json.dumps({**LONG, "stream": True, "lucie": {"events": True}}).encode()

    def heard(opened: socket.socket, what: bytes) -> bytes:
        seen = b""
        while what not in seen:
            part = opened.recv(4096)
            assert part, seen
            seen += part
        return seen

    with scripted(tmp_path, "--step-ms", "20") as server:
        opened = [server.connect() for _ in range(6)]
        for n, one in enumerate(opened):
            one.sendall(request(CHAT, asked))
            until(lambda n=n: server.health()["active"] + server.health()["waiting"] == n + 1)
        queued = b'event: lucie.queue\ndata: {"ahead":%d}\n\n'
        assert queued % 1 not in heard(opened[4], queued % 0)
        heard(opened[5], queued % 1)
        opened[0].close()
        assert b"lucie.queue" not in heard(opened[4], b'"content":"a')
        heard(opened[5], queued % 0)
        opened[1].close()
        heard(opened[5], b'"content":"a')
        for one in opened:
            one.close()


def test_dropped_turns_are_told(server: Running) -> None:
    turns = []
    for _ in range(4):
        turns += [
            {"role": "user", "content": "u" * 20_000},
            {"role": "assistant", "content": "a" * 2_000},
        ]
    messages = [*turns, {"role": "user", "content": "last"}]
    events = stream(server, {"messages": messages, "max_tokens": 1, "lucie": {"events": True}})
    (notice,) = [data for name, data in events if name == "lucie.notice"]
    assert notice["code"] == "server.turns-dropped"
    assert notice["facts"]["turns"] > 0
    assert notice["message"].startswith("The conversation no longer fits the window of 60,000")
    told = f"server.turns-dropped; turns={notice['facts']['turns']}; window=60000"
    for streamed in (False, True):  # clients that know no events of ours have a header
        plain = {"messages": messages, "max_tokens": 1, "stream": streamed}
        assert server.post(CHAT, plain).headers["x-lucie-notice"] == told


def test_a_completion_continues_a_text(server: Running) -> None:
    body = server.post("/v1/completions", {"prompt": "x", "max_tokens": 3, "logprobs": 1}).json()
    (choice,) = body["choices"]
    assert (body["object"], choice["text"]) == ("text_completion", "abc")
    assert choice["logprobs"]["tokens"] == ["a", "b", "c"]
    chunks = stream(server, {"prompt": [120], "max_tokens": 3}, "/v1/completions")
    assert "".join(data["choices"][0]["text"] for _, data in chunks[:-1]) == "abc"


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        (CHAT, {**HELLO, "foo": 1}, 400, "unknown_parameter"),
        (CHAT, {**HELLO, "model": "gpt-5"}, 404, "model_not_found"),
        (CHAT, {**HELLO, "stream_options": {}}, 400, "needs"),
        (CHAT, {**HELLO, "top_logprobs": 2}, 400, "needs"),
        (CHAT, {**HELLO, "max_tokens": 1, "max_completion_tokens": 1}, 400, "same_option"),
        (CHAT, {**HELLO, "repeat_penalty": 1.0, "repetition_penalty": 1.0}, 400, "same_option"),
        (CHAT, {**HELLO, "logit_bias": {"257": 1}}, 400, "no_token"),
        (CHAT, {**HELLO, "logit_bias": {"²": 1}}, 400, "no_token"),
        (
            CHAT,
            {"messages": [{"role": "user", "content": "x" * 70_000}]},
            400,
            "context_length_exceeded",
        ),
        ("/v1/completions", {"prompt": "x" * 60_000}, 400, "context_length_exceeded"),
        ("/v1/completions", {"prompt": ""}, 400, "too_short"),
        ("/v1/completions", {"prompt": [257]}, 400, "out_of_range"),
        ("/v1/embeddings", {}, 404, "wrong_path"),
        ("/health", {}, 405, "wrong_method"),
    ],
)
def test_what_cannot_be_done_is_refused_in_openais_shape(
    server: Running, path: str, body: dict[str, Any], status: int, code: str
) -> None:
    response = server.post(path, body)
    assert (response.status_code, response.json()["error"]["code"]) == (status, code)
    told = response.json()
    assert told["error"]["type"] == "invalid_request_error"
    assert told["error"]["message"]
    assert told["lucie"]["code"]


def test_errors_speak_the_language_that_is_asked_for(server: Running) -> None:
    french = {"Accept-Language": "fr-FR,en"}
    response = server.post(CHAT, {**HELLO, "foo": 1}, headers=french)
    assert "ne connaît pas" in response.json()["error"]["message"]
    long = {"messages": [{"role": "user", "content": "x" * 70_000}]}
    response = server.post(CHAT, long, headers=french)
    assert "60\u00a0000" in response.json()["error"]["message"]


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        pytest.param(request(CHAT, b"x" * (1 << 20) + b"x", CLOSE), b"413", id="too large"),
        pytest.param(request(CHAT, b"[" * 100_000, CLOSE), b"400", id="nested"),
        pytest.param(request(CHAT, b"\xff\xfe", CLOSE), b"400", id="not UTF-8"),
        pytest.param(request(CHAT, b"{}", "Content-Length: 5"), b"400", id="two lengths"),
        pytest.param(request(CHAT, b"{}", "Transfer-Encoding: gzip"), b"400", id="gzip"),
        pytest.param(b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 20_000, b"400", id="many headers"),
        pytest.param(b"\x16\x03\x01\x02\x00 TLS hello\r\n\r\n", b"400", id="TLS"),
    ],
)
def test_hostile_bytes_get_an_error_and_the_server_goes_on(
    server: Running, raw: bytes, status: bytes
) -> None:
    with server.connect() as opened:
        # It may have heard enough before all is said.
        with suppress(BrokenPipeError, ConnectionResetError):
            opened.sendall(raw)
        answer = read_all(opened)
    assert answer.split(b"\r\n")[0].split(b" ")[1] == status
    assert b"Traceback" not in answer
    assert server.post(CHAT, {**HELLO, "max_tokens": 1}).status_code == 200


def test_a_body_must_say_that_it_is_json(server: Running) -> None:
    plain = {"Content-Type": "text/plain"}
    response = server.post(CHAT, content=json.dumps(HELLO), headers=plain)
    assert response.status_code == 415


@pytest.mark.parametrize("streamed", [True, False])
def test_a_client_that_leaves_frees_its_place(server: Running, streamed: bool) -> None:
    with server.connect() as opened:
        opened.sendall(request(CHAT, json.dumps({**LONG, "stream": streamed}).encode()))
        until(lambda: server.health()["active"] == 1)
        if streamed:
            assert opened.recv(1000)
    until(lambda: server.health()["active"] == 0)


def test_a_client_that_does_not_read_costs_bounded_memory(tmp_path: Path) -> None:
    arguments = ("--step-ms", "0.1", "--n-ctx", "1000000", "--max-unread", "500")
    body = {**LONG, "stream": True, "logprobs": True, "top_logprobs": 1}
    with scripted(tmp_path, *arguments) as server, server.connect() as opened:
        opened.sendall(request(CHAT, json.dumps(body).encode(), CLOSE))
        until(lambda: server.health()["active"] == 1)
        until(lambda: server.health()["active"] == 0)
        assert b"server.too-slow" in read_all(opened)


def test_a_silent_stream_says_that_it_is_alive(tmp_path: Path) -> None:
    with (
        scripted(tmp_path, "--step-ms", "600", "--silence", "0.1") as server,
        server.http() as http,
        http.stream("POST", CHAT, json={**HELLO, "max_tokens": 1, "stream": True}) as response,
    ):
        assert next(response.iter_raw()).endswith(b":\n\n")


def test_while_it_loads_it_says_how_far_it_is(tmp_path: Path) -> None:
    loaded = tmp_path / "loaded"
    with scripted(tmp_path, "--load-until", str(loaded), ready=False) as server:
        with server.http() as http:
            response = http.get("/health")
        assert response.status_code == 503
        assert response.json()["status"] == "loading"
        refused = server.post(CHAT, HELLO)
        assert refused.status_code == 503
        assert refused.headers["retry-after"] == "1"
        loaded.touch()
        assert refused.json()["error"]["code"] == "loading"
        until(lambda: server.health().get("progress", 1) > 0)
        until(lambda: server.health()["status"] == "ok")


def test_too_many_requests_are_refused(tmp_path: Path) -> None:
    with (
        scripted(tmp_path, "--max-answers", "1", "--step-ms", "20") as server,
        server.connect() as opened,
    ):
        opened.sendall(request(CHAT, json.dumps(LONG).encode()))
        until(lambda: server.health()["active"] == 1)
        refused = server.post(CHAT, HELLO)
        assert (refused.status_code, refused.json()["error"]["type"]) == (429, "rate_limit_error")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_answers_with_an_error_and_the_process_with_0(
    tmp_path: Path, number: signal.Signals
) -> None:
    with scripted(tmp_path, "--step-ms", "20") as server:
        with server.connect() as opened:
            opened.sendall(request(CHAT, json.dumps({**LONG, "stream": True}).encode()))
            assert b"200 OK" in opened.recv(1000)
            until(lambda: server.health()["active"] == 1)
            server.process.send_signal(number)
            rest = read_all(opened)
        assert b"server.stopping" in rest
        assert server.process.wait(10) == 0
        assert not server.socket.exists()
        assert server.process.stderr is not None
        assert server.process.stderr.read() == ""


def test_a_signal_while_loading_ends_it_at_once(tmp_path: Path) -> None:
    with scripted(tmp_path, "--load-s", "60", ready=False) as server:
        # Its socket is there before anybody serves it, and listens to signals.
        assert server.health()["status"] == "loading"
        server.process.terminate()
        assert server.process.wait(10) == 0


def test_a_refused_model_ends_the_server(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPTED), str(tmp_path / "s.sock"), "--refuse"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1
    assert "MemoryRefusedError" in ended.stderr


# -- a server that lives for its users ------------------------------------------------


def lease(server: Running) -> socket.socket:
    opened = server.connect()
    opened.sendall(b"GET /lease HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert b"200 OK" in opened.recv(1000)
    return opened


def test_it_ends_when_nobody_comes(tmp_path: Path) -> None:
    with scripted(tmp_path, "--life", "60", "0.3", ready=False) as server:
        assert server.process.wait(10) == 0


def test_it_lives_as_long_as_one_user_holds_it(tmp_path: Path) -> None:
    with scripted(tmp_path, "--life", "0.2", "30") as server:
        first, second = lease(server), lease(server)
        first.close()
        time.sleep(0.5)
        assert server.health()["status"] == "ok"
        second.close()
        assert server.process.wait(10) == 0
        assert not answers(server.socket)


def test_its_users_hear_why_a_model_was_refused(tmp_path: Path) -> None:
    arguments = ("--life", "60", "30", "--refuse", "--load-s", "1")
    with scripted(tmp_path, *arguments, ready=False) as server:
        held = lease(server)
        with server.http() as http:
            http.get("/health")  # this connection outlives the socket's file
            until(lambda: not server.socket.exists())
            told = http.get("/health")
        assert told.status_code == 507
        assert told.json()["lucie"]["code"] == "memory.too-large"
        assert server.process.poll() is None
        held.close()
        assert server.process.wait(10) == 1


def test_leases_are_for_such_servers_only(server: Running) -> None:
    with server.http() as http:
        assert http.get("/lease").status_code == 404


# -- where it listens -----------------------------------------------------------------


def test_the_socket_is_its_owners_alone(server: Running) -> None:
    assert stat.S_IMODE(server.socket.stat().st_mode) == 0o600


def test_a_taken_socket_is_refused_and_a_dead_ones_is_taken_over(
    server: Running, tmp_path: Path
) -> None:
    with pytest.raises(ServerError, match="already"):
        listen_unix(server.socket)
    dead = tmp_path / "dead.sock"
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(dead))
    listener = listen_unix(dead)
    assert answers(dead)
    listener.remove()
    assert not dead.exists()
    listener.socket.close()


def test_a_newer_servers_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    old = listen_unix(path)
    path.unlink()
    new = listen_unix(path)
    old.remove()
    assert answers(path)
    new.remove()
    for listener in (old, new):
        listener.socket.close()


def test_what_is_no_socket_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "letter.txt"
    path.write_text("dear")
    with pytest.raises(UsageError):
        listen_unix(path)
    assert path.read_text() == "dear"
    with pytest.raises(UsageError):
        listen_unix(tmp_path / ("x" * MAX_SOCKET_PATH))
    with pytest.raises(ServerError):
        listen_unix(tmp_path / "missing" / "s.sock")


def test_a_taken_port_is_refused() -> None:
    listener = listen_tcp("127.0.0.1", 0)
    port = listener.socket.getsockname()[1]
    with pytest.raises(ServerError, match=str(port)):
        listen_tcp("127.0.0.1", port)
    listener.socket.close()
    with pytest.raises(UsageError):
        listen_tcp("no such host", 0)


_OUT_OF_REACH = """
import fcntl, socket, struct
from edge.server import listen

def switch(on):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        fcntl.ioctl(s, 0x8914, struct.pack("16sh22x", b"lo", on))  # SIOCSIFFLAGS, IFF_UP

listen._UNREACHED_MS = 500
switch(1)
listener = listen.listen_tcp("127.0.0.1", 0)
with socket.create_connection(listener.socket.getsockname()):
    served, _ = listener.socket.accept()
    switch(0)
    served.send(b"a sign of life")
    try:
        served.recv(1)
    except OSError:
        print("ended")
"""


@pytest.mark.netns
def test_a_connection_ends_whose_other_side_is_out_of_reach() -> None:
    command = ["unshare", "-rn", sys.executable, "-c", _OUT_OF_REACH]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.stdout == "ended\n", done.stderr


def test_a_page_that_was_rebound_to_this_machine_is_refused(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPTED), str(tmp_path / "none"), "--tcp"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().split()[0]
        try:
            for host, status in [
                ("evil.example", 403),
                ("evil.example:80", 403),
                ("localhost:1", 200),
                ("127.0.0.1", 200),
                ("[::1]:80", 200),
            ]:
                response = httpx.get(f"{url}/health", headers={"Host": host}, trust_env=False)
                assert response.status_code == status, host
                assert "access-control-allow-origin" not in response.headers
        finally:
            process.terminate()


def test_who_is_slow_to_ask_holds_nobody_up(tmp_path: Path) -> None:
    half = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
    no_body = half + b"Content-Type: application/json\r\nContent-Length: 9\r\n\r\n{"
    settings = ("--patience", "1", "--max-answers", "2", "--max-connections", "8")
    with scripted(tmp_path, *settings) as server:
        for beginning, told in ((half, b""), (no_body, b"408"), (b"", b"")):
            opened = [server.connect() for _ in range(4)]
            for one in opened:
                one.sendall(beginning)
            time.sleep(0.1)
            assert server.post(CHAT, {**HELLO, "max_tokens": 1}).status_code == 200
            for one in opened:  # until it is closed from there
                assert told in b"".join(iter(lambda one=one: one.recv(4096), b""))
                one.close()

        crowd = [server.connect() for _ in range(9)]
        refused = server.post(CHAT, {**HELLO, "max_tokens": 1})
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
        assert refused.json()["error"]["message"]
        assert server.health()["status"] == "ok"
        for one in crowd:
            one.close()
        until(lambda: server.post(CHAT, {**HELLO, "max_tokens": 1}).status_code == 200)


def test_a_second_request_may_be_slow_only_so_long(tmp_path: Path) -> None:
    with scripted(tmp_path, "--patience", "1") as server, server.connect() as opened:
        opened.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = b""
        while not answer.endswith(b"}"):  # head and body may come apart
            answer += opened.recv(4096)
        opened.sendall(b"GET /heal")
        assert opened.recv(4096) == b""


def test_a_long_prompt_sends_signs_of_life(tmp_path: Path) -> None:
    body = {"prompt": "x" * 1500, "max_tokens": 1, "stream": True}
    with (
        scripted(tmp_path, "--step-ms", "60", "--silence", "0.3") as server,
        server.http() as http,
        http.stream("POST", "/v1/completions", json=body) as response,
    ):
        lines = list(response.iter_lines())
    assert lines.count(":") >= 3, "for a client that asks for no events of ours"
    assert lines[-2:] == ["data: [DONE]", ""]
