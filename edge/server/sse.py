"""Chunks of a streamed answer, as OpenAI's API has them.

A chunk a token is the server's hot path, so its constant parts are put together
once a request and the text is set in between; nothing is validated or built as
an object. Reference: https://platform.openai.com/docs/api-reference/chat-streaming
and, for `timings`, llama.cpp's server.
"""

from __future__ import annotations

import json
from typing import Any

__all__ = ["ALIVE", "DONE", "ChunkWriter", "named_event"]

ALIVE = b":\n\n"
"""A comment: keeps a silent stream alive, and no client shows it."""
DONE = b"data: [DONE]\n\n"

_quote = json.encoder.encode_basestring_ascii  # the C function behind json.dumps of a string


def _dumps(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def named_event(name: str, data: dict[str, Any]) -> bytes:
    """A server-sent event of our own; other clients skip names that they do not know."""
    return f"event: {name}\ndata: {_dumps(data)}\n\n".encode()


class ChunkWriter:
    """Writes the chunks of one streamed answer.

    Args:
        chat: whether chunks are those of `/v1/chat/completions`; else of `/v1/completions`.
        answer_id: the answer's id.
        created: Unix time, in seconds.
        model: the model's name.
        fingerprint: names the engine, as results depend on it.
        include_usage: whether a last chunk tells the token counts.
        events: whether the client knows fields of our own.
    """

    def __init__(
        self,
        *,
        chat: bool,
        answer_id: str,
        created: int,
        model: str,
        fingerprint: str,
        include_usage: bool,
        events: bool = False,
    ) -> None:
        kind = "chat.completion.chunk" if chat else "text_completion"
        self._head = (
            f'data: {{"id":{_quote(answer_id)},"object":"{kind}","created":{created},'
            f'"model":{_quote(model)},"system_fingerprint":{_quote(fingerprint)},"choices":['
        )
        self._usage = include_usage
        # With include_usage, every other chunk says that it has none.
        self._tail = ',"usage":null}\n\n' if include_usage else "}\n\n"
        self._chat = chat
        self._events = events
        before, after = ('"delta":{"content":', "}") if chat else ('"text":', "")
        self._before = f'{self._head}{{"index":0,{before}'
        self._plain = f'{after},"logprobs":null,"finish_reason":null}}]'
        self._after = f'{after},"logprobs":'
        self._end = ',"finish_reason":null}]'

    def role(self) -> bytes:
        """The first chunk of a chat answer."""
        choice = '{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null'
        return f'{self._head}{choice},"finish_reason":null}}]{self._tail}'.encode()

    def text(self, text: str, logprobs: dict[str, Any] | None, n_tokens: int) -> bytes:
        """More of the answer, which has `n_tokens` tokens by now."""
        told = (
            f"{self._after}{_dumps(logprobs)}{self._end}" if logprobs is not None else self._plain
        )
        ours = f',"lucie":{{"tokens":{n_tokens}}}' if self._events else ""
        return f"{self._before}{_quote(text)}{told}{ours}{self._tail}".encode()

    def finish(self, reason: str, extra: dict[str, Any]) -> bytes:
        """The chunk that ends the choice, with `extra` fields beside it."""
        content = '"delta":{}' if self._chat else '"text":""'
        choice = f'{{"index":0,{content},"logprobs":null,"finish_reason":"{reason}"}}]'
        fields = "".join(f',"{name}":{_dumps(value)}' for name, value in extra.items())
        return f"{self._head}{choice}{fields}{self._tail}".encode()

    def usage(self, usage: dict[str, Any]) -> bytes:
        """The token counts, where they were asked for; else nothing."""
        if not self._usage:
            return b""
        return f'{self._head}],"usage":{_dumps(usage)}}}\n\n'.encode()

    def error(self, body: dict[str, Any]) -> bytes:
        """What goes instead of an end when the answer broke off."""
        return f"data: {_dumps(body)}\n\n".encode()
