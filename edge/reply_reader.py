"""From the server-sent events of an answer to `edge.client.Reply`; nothing in them is trusted."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from edge.client import Delta, Done, Notice, Progress, Queued, Reply
from edge.errors import (
    EngineError,
    LucieError,
    MemoryRefusedError,
    ServerError,
    UnknownModelError,
    UsageError,
)
from edge.messages import text

__all__ = ["KEY_VARIABLE", "ReplyReader", "error_told", "parse_object"]

_MAX_TEXT = 1 << 20
"""Characters of an answer: many times what any window holds."""
_CODE = re.compile(r"[a-z]{1,20}\.[a-z0-9-]{1,40}")
_HALF = re.compile("[\ud800-\udfff]")
_RESERVED = {"code", "lang", "folder"}  # arguments of `text`, so no names of facts
KEY_VARIABLE = "LUCIE_API_KEY"
"""Environment variable with the key for servers that want one."""
_KINDS: dict[int, type[LucieError]] = {
    400: UsageError,
    404: UnknownModelError,
    413: UsageError,
    429: EngineError,
    503: EngineError,
    507: MemoryRefusedError,
}


class ReplyReader:
    """Reads one streamed answer.

    Args:
        address: of the server, for errors.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._length = 0
        self._reason: str | None = None
        self._usage: dict[str, Any] = {}
        self._timings: dict[str, Any] = {}
        self._extra: dict[str, Any] = {}

    def read(self, event: str, data: str) -> Iterator[Reply]:
        """What one event says.

        Raises:
            LucieError: what the server told as an error.
            ServerError: it is not what such a server sends.
        """
        if data == "[DONE]":
            return
        content = parse_object(data, self._address)
        if event == "lucie.queue":
            if (ahead := _int(content, "ahead")) is not None:
                yield Queued(ahead)
        elif event == "lucie.progress":
            done, total, reused = (_int(content, key) for key in ("done", "total", "reused"))
            if done is not None and total is not None:
                yield Progress(done, total, reused or 0)
        elif event == "lucie.notice":
            if (notice := _notice(content)) is not None:
                yield notice
        elif event in ("", "message"):
            yield from self._chunk(content)

    def _chunk(self, content: dict[str, Any]) -> Iterator[Reply]:
        if content.get("error"):
            raise error_told(200, content, self._address)
        self._usage = _dict(content, "usage") or self._usage
        self._timings = _dict(content, "timings") or self._timings
        self._extra = _dict(content, "lucie") or self._extra
        choices = content.get("choices")
        if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
            return
        said = _dict(choices[0], "delta").get("content")
        if isinstance(said, str) and said:
            self._length += len(said)
            if self._length > _MAX_TEXT:
                raise ServerError("server.endless", address=self._address, most=_MAX_TEXT)
            yield Delta(said, _int(_dict(content, "lucie"), "tokens"))
        reason = choices[0].get("finish_reason")
        if isinstance(reason, str):
            self._reason = reason

    def done(self) -> Done | None:
        """The end of the answer; None where the stream stopped before the answer did."""
        if self._reason is None:
            return None
        details = _dict(self._usage, "prompt_tokens_details")
        return Done(
            reason=self._reason,
            prompt_tokens=_int(self._usage, "prompt_tokens"),
            completion_tokens=_int(self._usage, "completion_tokens"),
            cached_tokens=_int(details, "cached_tokens"),
            prompt_ms=_number(self._timings, "prompt_ms"),
            predicted_ms=_number(self._timings, "predicted_ms"),
            memory_bytes=_int(self._extra, "memory_bytes"),
            seed=_int(self._extra, "seed"),
        )


def parse_object(data: str | bytes, address: str) -> dict[str, Any]:
    """A JSON object from a server. Raises `ServerError` where it is something else."""
    try:
        content = json.loads(data)
        source = data if isinstance(data, str) else data.decode("utf-8")
        if "\\ud" in source.lower():  # half of a surrogate pair is legal JSON, but no text
            whole = _HALF.sub("\ufffd", json.dumps(content, ensure_ascii=False))
            content = json.loads(whole)
    except (ValueError, RecursionError) as error:
        raise ServerError("server.not-understood", address=address) from error
    if not isinstance(content, dict):
        raise ServerError("server.not-understood", address=address)
    return content


def error_told(status: int, body: dict[str, Any], address: str) -> LucieError:
    """The error in `body`: in our own words where the server gave its code, else in its own."""
    lucie = _dict(body, "lucie")
    code, facts = lucie.get("code"), lucie.get("facts")
    if isinstance(code, str) and isinstance(facts, dict) and _known(code, facts):
        kind = _KINDS.get(_int(lucie, "status") or status, LucieError)
        return kind(code, **facts)
    error = body.get("error")
    said = error.get("message") if isinstance(error, dict) else error
    message = said[:500] if isinstance(said, str) else ""
    if status == 401:
        return ServerError("server.key-wanted", address=address, name=KEY_VARIABLE)
    if not message:
        return ServerError("server.status", address=address, status=status)
    if status == 200:  # in the middle of a stream
        return ServerError("server.failed", address=address, message=message)
    return ServerError("server.said", address=address, status=status, message=message)


def _known(code: str, facts: dict[str, Any]) -> bool:
    """Whether our locale can say it; a later version of the server may know more than we."""
    if not _CODE.fullmatch(code) or _RESERVED & facts.keys():
        return False
    try:
        text(code, **facts)
    except (KeyError, IndexError, ValueError, TypeError, FileNotFoundError):
        return False
    return True


def _notice(content: dict[str, Any]) -> Notice | None:
    code, facts = content.get("code"), content.get("facts")
    if isinstance(code, str) and isinstance(facts, dict) and _known(code, facts):
        return Notice(code, facts)
    return None


def _dict(content: dict[str, Any], key: str) -> dict[str, Any]:
    value = content.get(key)
    return value if isinstance(value, dict) else {}


def _number(content: dict[str, Any], key: str) -> float | None:
    value = content.get(key)
    return float(value) if isinstance(value, int | float) else None


def _int(content: dict[str, Any], key: str) -> int | None:
    value = content.get(key)
    return value if isinstance(value, int) else None
