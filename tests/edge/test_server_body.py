"""Bytes of a request to a checked object: everything hostile ends in an error that says what."""

from __future__ import annotations

import json
from typing import Any

import pytest

from edge.errors import UsageError
from edge.server.body import MAX_BODY, ClientGoneError, parse, read_body
from edge.server.refusal import TooLargeError, WrongMediaTypeError, error_body, language_of
from edge.server.schema import ChatRequest, CompletionRequest

HELLO = {"messages": [{"role": "user", "content": "Hello"}]}
JSON = [(b"content-type", b"application/json; charset=utf-8")]


def refused(body: bytes, model: type = ChatRequest) -> UsageError:
    with pytest.raises(UsageError) as caught:
        parse(model, body)
    assert str(caught.value)
    for lang in ("en", "fr"):
        json.dumps(error_body(caught.value, lang))
    return caught.value


def with_(**fields: Any) -> bytes:
    return json.dumps({**HELLO, **fields}).encode()


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "server.not-json"),
        (b"{", "server.not-json"),
        (b"\xff\xfe{}", "server.not-json"),
        (b'{"messages": NaN}', "server.not-json"),
        (b'{"a": -Infinity}', "server.not-json"),
        (b'{"seed": ' + b"9" * 5000 + b"}", "server.not-json"),
        (b'{"messages":[{"role":"user","content":"\\ud800"}]}', "server.not-json"),
        (b"[" * 200_000, "server.nested-too-deep"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "server.nested-too-deep"),
        (b"[]", "server.not-an-object"),
        (b"null", "server.not-an-object"),
    ],
)
def test_what_is_no_json_is_refused(body: bytes, code: str) -> None:
    assert refused(body).code == code


def test_what_asks_for_nothing_is_no_unknown_parameter() -> None:
    sent = {"role": "assistant", "content": "Hi", "refusal": None, "audio": None}
    sent |= {"annotations": [], "tool_calls": [], "function_call": None}
    extra = {"tools": None, "store": False, "metadata": {}, "service_tier": None, "seed": None}
    request = parse(ChatRequest, json.dumps({"messages": [sent], **extra}).encode())
    assert request == parse(ChatRequest, b'{"messages": [{"role": "assistant", "content": "Hi"}]}')


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"foo": 1}, "server.unknown-parameter", "foo"),
        ({"tools": [{}]}, "server.unknown-parameter", "tools"),
        ({"lucie": {"extra": 1}}, "server.unknown-parameter", "lucie.extra"),
        ({"messages": []}, "server.too-short", "messages"),
        ({"messages": "hi"}, "server.wrong-type", "messages"),
        ({"messages": [{"role": "user"}]}, "server.missing-parameter", "messages[0].content"),
        (
            {"messages": [{"role": "tool", "content": "x"}]},
            "server.wrong-choice",
            "messages[0].role",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "image", "text": "x"}]}]},
            "server.wrong-choice",
            "messages[0].content[0].type",
        ),
        ({"temperature": -1}, "server.out-of-range", "temperature"),
        ({"temperature": "0.5"}, "server.wrong-type", "temperature"),
        ({"temperature": True}, "server.wrong-type", "temperature"),
        ({"top_p": 1.5}, "server.out-of-range", "top_p"),
        ({"n": 2}, "server.out-of-range", "n"),
        ({"n": True}, "server.wrong-type", "n"),
        ({"seed": 2**32 - 1}, "server.out-of-range", "seed"),
        ({"seed": 10**400}, "server.out-of-range", "seed"),
        ({"max_tokens": 0}, "server.out-of-range", "max_tokens"),
        ({"stop": ["a"] * 5}, "server.too-long", "stop"),
        ({"stop": [""]}, "server.too-short", "stop[0]"),
        ({"stop": 3}, "server.wrong-type", "stop"),
        ({"top_logprobs": 21}, "server.out-of-range", "top_logprobs"),
        ({"logit_bias": {"1": 101}}, "server.out-of-range", "logit_bias.1"),
        ({"response_format": {"type": "xml"}}, "server.wrong-choice", "response_format"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "a"}}},
            "server.missing-parameter",
            "response_format.json_schema.schema",
        ),
    ],
)
def test_each_wrong_field_is_named(fields: dict[str, Any], code: str, param: str) -> None:
    error = refused(with_(**fields))
    assert (error.code, error.facts["param"]) == (code, param)


def test_an_infinite_number_is_refused() -> None:
    body = b'{"messages":[{"role":"user","content":"x"}],"temperature":1e999}'
    assert refused(body).facts["param"] == "temperature"


def test_a_completion_takes_text_or_token_ids() -> None:
    assert parse(CompletionRequest, b'{"prompt":"a"}').prompt == "a"
    assert parse(CompletionRequest, b'{"prompt":[1,2]}').prompt == [1, 2]
    for wrong in (b"[]", b"[-1]", b"[true]", b'["a","b"]', b"{}"):
        assert refused(b'{"prompt":' + wrong + b"}", CompletionRequest).facts["param"]


def test_null_means_the_default_and_text_parts_are_joined() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    body = with_(temperature=None, stop=None, messages=[{"role": "user", "content": parts}])
    request = parse(ChatRequest, body)
    assert request.temperature is None
    assert request.messages[0].text() == "ab"


def test_an_escaped_emoji_is_text() -> None:
    body = b'{"messages":[{"role":"user","content":"\\ud83d\\ude00"}]}'
    assert parse(ChatRequest, body).messages[0].text() == "\U0001f600"


class Sender:
    """An ASGI `receive` that sends these pieces."""

    def __init__(self, *pieces: bytes, leaves: bool = False) -> None:
        self.pieces = list(pieces)
        self.leaves = leaves

    async def __call__(self) -> dict[str, Any]:
        if not self.pieces:
            assert self.leaves, "read past the end"
            return {"type": "http.disconnect"}
        piece = self.pieces.pop(0)
        more = bool(self.pieces) or self.leaves
        return {"type": "http.request", "body": piece, "more_body": more}


async def test_a_body_comes_in_pieces() -> None:
    assert await read_body(JSON, Sender(b"ab", b"", b"c")) == b"abc"


async def test_a_body_that_is_too_large_is_not_read_to_its_end() -> None:
    sender = Sender(*[b"x" * (MAX_BODY // 2)] * 5)
    with pytest.raises(TooLargeError) as caught:
        await read_body(JSON, sender)
    assert caught.value.status == 413
    assert len(sender.pieces) == 2


@pytest.mark.parametrize("declared", [[], [(b"content-type", b"text/plain")]])
async def test_a_body_must_be_declared_as_json(declared: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(WrongMediaTypeError):
        await read_body(declared, Sender(b"{}"))


async def test_a_client_that_leaves_is_noticed() -> None:
    with pytest.raises(ClientGoneError):
        await read_body(JSON, Sender(b"a", leaves=True))


@pytest.mark.parametrize(
    ("accept", "lang"),
    [
        (None, "en"),
        ("fr-FR,en;q=0.5", "fr"),
        ("de, fr;q=0.8", "fr"),
        ("*", "en"),
        (",;=" * 1000, "en"),
    ],
)
def test_the_language_is_the_first_that_we_speak(accept: str | None, lang: str) -> None:
    assert language_of(accept) == lang
