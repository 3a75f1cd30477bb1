"""Answers on their way out: in one piece, or streamed as they grow.

Both watch for the client's going while they wait, and give the request up at once.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from edge.messages import translate
from edge.server import mailbox
from edge.server.answer import Answer, timings_body, usage_body
from edge.server.mailbox import EventStream
from edge.server.prepare import Job
from edge.server.refusal import error_body
from edge.server.service import Loaded, Service, resident_bytes
from edge.server.sse import ALIVE, DONE, ChunkWriter, named_event

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from edge.errors import LucieError

__all__ = ["Reply", "StreamedReply", "WholeReply", "error_response", "json_response"]

_STREAM_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # else nginx keeps the answer until it is complete
]
_RETRY = (429, 503)  # passing states: OpenAI's clients then try again by themselves


class Reply(ABC):
    """An ASGI application that computes and sends one answer.

    Args:
        service: counts it while it lasts.
        loaded: the model that answers.
        job: what to answer.
        lang: language of a possible error.
    """

    def __init__(self, service: Service, loaded: Loaded, job: Job, lang: str) -> None:
        self._service = service
        self._loaded = loaded
        self._job = job
        self._lang = lang
        self._answer = Answer(
            loaded.engine.tokenizer,
            len(job.request.prompt),
            job.stop,
            job.logprobs,
            constrained=job.request.constraint is not None,
        )
        self._id = ("chatcmpl-" if job.chat else "cmpl-") + secrets.token_hex(12)
        self._created = int(time.time())
        # For clients that do not know our notices: "server.turns-dropped; turns=2".
        self._headers = [
            (b"x-lucie-notice", "; ".join([code, *(f"{k}={v}" for k, v in facts.items())]).encode())
            for code, facts in job.notices
        ]

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        """Compute and send; ends early where the client goes."""
        with self._service.compute(self._loaded, self._job.request) as events:
            watch = asyncio.create_task(_watch(receive, events))
            try:
                await self._send(send, events)
            finally:
                watch.cancel()

    @abstractmethod
    async def _send(self, send: Send, events: EventStream) -> None:
        """Send the response from start to end."""

    def _extra(self) -> dict[str, Any]:
        """What stands beside the choices at the end."""
        answer, spec = self._answer, self._loaded.engine.spec
        extra: dict[str, Any] = {}
        if answer.timings is not None:
            extra["timings"] = timings_body(answer.timings)
        if self._job.events:
            used = answer.n_prompt + answer.n_tokens
            extra["lucie"] = {
                "memory_bytes": resident_bytes(),
                "seed": self._job.request.sampling.seed,
                "context": {"used": used, "size": spec.n_ctx},
            }
        return extra


class WholeReply(Reply):
    """The complete answer as one JSON object."""

    async def _send(self, send: Send, events: EventStream) -> None:
        answer = self._answer
        while answer.reason is None and answer.error is None:
            answer.feed(await events.batch())
            if events.gone:
                return
        if answer.error is not None:
            await error_response(send, answer.error, self._lang)
            return
        await json_response(send, 200, self._body(), self._headers)

    def _body(self) -> dict[str, Any]:
        text, logprobs = self._answer.take()
        content: dict[str, Any] = {"text": text}
        if self._job.chat:
            content = {"message": {"role": "assistant", "content": text}}
        body = {
            "id": self._id,
            "object": "chat.completion" if self._job.chat else "text_completion",
            "created": self._created,
            "model": self._loaded.name,
            "system_fingerprint": self._loaded.engine.spec.engine,
            "choices": [
                {
                    "index": 0,
                    **content,
                    "logprobs": logprobs,
                    "finish_reason": self._answer.reason,
                }
            ],
            "usage": usage_body(self._answer),
            **self._extra(),
        }
        if self._job.events:
            notices = [_told(code, facts, self._lang) for code, facts in self._job.notices]
            body["lucie"]["notices"] = notices
        return body


class StreamedReply(Reply):
    """The answer as server-sent events, in chunks of what is there."""

    async def _send(self, send: Send, events: EventStream) -> None:
        writer = ChunkWriter(
            chat=self._job.chat,
            answer_id=self._id,
            created=self._created,
            model=self._loaded.name,
            fingerprint=self._loaded.engine.spec.engine,
            include_usage=self._job.include_usage,
            events=self._job.events,
        )
        headers = [*_STREAM_HEADERS, *self._headers]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        waiting = self._notices() + (writer.role() if self._job.chat else b"")
        answer = self._answer
        clock = asyncio.get_running_loop().time
        sent = clock()
        while answer.reason is None and answer.error is None:
            batch = await events.batch()
            if events.gone:
                return
            answer.feed(batch)
            out = self._news(writer)
            # Also while a long prompt is read, of which plain clients hear nothing.
            if not out and (not batch or clock() - sent >= mailbox.SILENCE):
                out = ALIVE
            if out:
                await send(_part(waiting + out))
                waiting = b""
                sent = clock()
        await send(_part(waiting + self._end(writer), last=True))

    def _notices(self) -> bytes:
        if not self._job.events:
            return b""
        return b"".join(
            named_event("lucie.notice", _told(code, facts, self._lang))
            for code, facts in self._job.notices
        )

    def _news(self, writer: ChunkWriter) -> bytes:
        answer = self._answer
        text, logprobs = answer.take()
        if text or logprobs is not None:
            return writer.text(text, logprobs, answer.n_tokens)
        if not self._job.events:
            return b""
        if answer.ahead is not None:
            return named_event("lucie.queue", {"ahead": answer.ahead})
        if answer.n_tokens == 0 and answer.progress.done:
            progress = answer.progress
            return named_event(
                "lucie.progress",
                {"done": progress.done, "total": progress.total, "reused": progress.reused},
            )
        return b""

    def _end(self, writer: ChunkWriter) -> bytes:
        answer = self._answer
        if answer.error is not None or answer.reason is None:
            error = answer.error
            return writer.error(error_body(error, self._lang)) if error is not None else b""
        return writer.finish(answer.reason, self._extra()) + writer.usage(usage_body(answer)) + DONE


def _told(code: str, facts: dict[str, Any], lang: str) -> dict[str, Any]:
    """A notice as data, and in words for clients that have none of ours."""
    return {"code": code, "facts": facts, "message": translate(code, facts, lang=lang)}


async def _watch(receive: Receive, events: EventStream) -> None:
    """Wait for the client's going."""
    while (await receive())["type"] != "http.disconnect":
        pass
    events.leave()


def _part(body: bytes, *, last: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": body, "more_body": not last}


async def error_response(send: Send, error: LucieError, lang: str) -> None:
    """Send `error` as the whole response."""
    await json_response(send, error.status, error_body(error, lang))


async def json_response(
    send: Send, status: int, body: Any, more: Sequence[tuple[bytes, bytes]] = ()
) -> None:
    """Send `body` as the whole JSON response, with `more` headers."""
    data = json.dumps(body, separators=(",", ":")).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(data)).encode()),
        *more,
    ]
    if status in _RETRY:
        headers.append((b"retry-after", b"1"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send(_part(data, last=True))
