"""From the bytes of a request to a checked object; everything hostile ends here."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn, TypeVar

from pydantic import BaseModel, ValidationError

from edge.errors import UsageError
from edge.server.refusal import TooLargeError, WrongMediaTypeError, from_validation

__all__ = ["MAX_BODY", "ClientGoneError", "parse", "read_body"]

MAX_BODY = 1024 * 1024
"""Bytes of the largest body: some 250,000 tokens, more than any window here."""

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
        ClientGoneError: the client left.
    """
    declared = dict(headers)
    media_type = declared.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if media_type != b"application/json":
        raise WrongMediaTypeError("server.wrong-media-type")
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        body += message["body"]
        if len(body) > MAX_BODY:
            raise TooLargeError("server.too-large", most=MAX_BODY)
        if not message["more_body"]:
            return bytes(body)


def parse(model: type[_Model], body: bytes) -> _Model:
    """The request in `body`.

    Raises:
        UsageError: it is not JSON, or not what `model` allows.
    """
    content = _json(body)
    if not isinstance(content, dict):
        raise UsageError("server.not-an-object")
    try:
        return model.model_validate(content)
    except ValidationError as failure:
        raise from_validation(failure, content) from failure


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
