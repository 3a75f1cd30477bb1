"""From the bytes of a request to a checked object; everything hostile ends here."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn, TypeVar

from pydantic import BaseModel, ValidationError

from edge.errors import UsageError
from edge.server.refusal import TooLargeError, TooSlowError, WrongMediaTypeError, from_validation

__all__ = ["MAX_BODY", "PATIENCE_S", "ClientGoneError", "parse", "read_body"]

MAX_BODY = 1024 * 1024
"""Bytes of the largest body: some 250,000 tokens, more than any window here."""

PATIENCE_S = 15.0
"""Seconds that a client has for sending a request's head, and again for its body."""

_NOTHING_WHERE_EMPTY = frozenset({"annotations", "metadata", "store", "tool_calls", "tools"})

_Model = TypeVar("_Model", bound=BaseModel)


class ClientGoneError(Exception):
    """The client closed the connection before its request was complete."""


async def read_body(
    headers: list[tuple[bytes, bytes]], receive: Callable[[], Awaitable[Any]]
) -> bytes:
    """The whole body of a request that says it is JSON.

    JSON is demanded because a browser may send other types to any host without
    asking first, so a web page could make this server work.

    Raises:
        TooLargeError: more than `MAX_BODY` bytes.
        WrongMediaTypeError: not `application/json`.
        TooSlowError: it did not arrive in time.
        ClientGoneError: the client left.
    """
    declared = dict(headers)
    media_type = declared.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if media_type != b"application/json":
        raise WrongMediaTypeError("server.wrong-media-type")
    body = bytearray()
    try:
        async with asyncio.timeout(PATIENCE_S):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientGoneError
                body += message["body"]
                if len(body) > MAX_BODY:
                    raise TooLargeError("server.too-large", most=MAX_BODY)
                if not message["more_body"]:
                    return bytes(body)
    except TimeoutError as error:
        raise TooSlowError("server.slow-body", seconds=round(PATIENCE_S)) from error


def parse(model: type[_Model], body: bytes) -> _Model:
    """The request in `body`.

    Raises:
        UsageError: it is not JSON, or not what `model` allows.
    """
    content = _json(body)
    if not isinstance(content, dict):
        raise UsageError("server.not-an-object")
    content = _meant(content)
    if isinstance(messages := content.get("messages"), list):
        content["messages"] = [_meant(m) if isinstance(m, dict) else m for m in messages]
    try:
        return model.model_validate(content)
    except ValidationError as failure:
        raise from_validation(failure, content) from failure


def _meant(fields: dict[str, Any]) -> dict[str, Any]:
    """`fields` without those that ask for nothing, as clients send whole objects back."""
    return {
        name: value
        for name, value in fields.items()
        if value is not None and (value or name not in _NOTHING_WHERE_EMPTY)
    }


def _json(body: bytes) -> Any:
    try:
        content = json.loads(body.decode("utf-8"), parse_constant=_refuse_constant)
        if b"\\u" in body:
            # A lone half of a surrogate pair is legal JSON, but no text.
            json.dumps(content, ensure_ascii=False).encode("utf-8")
    except RecursionError as failure:
        raise UsageError("server.nested-too-deep") from failure
    except ValueError as failure:  # also UnicodeError and Python's bound on digits
        raise UsageError("server.not-json") from failure
    return content


def _refuse_constant(name: str) -> NoReturn:
    """NaN and Infinity are JavaScript, not JSON."""
    raise ValueError(name)
