"""Errors as OpenAI's clients expect them, and as ours can say in their own language.

    {"error": {"message", "type", "param", "code"}, "lucie": {"code", "facts", "status"}}

`error` is OpenAI's shape, its message in the language that the request asks for;
`lucie` carries the same error as data (see `edge.errors`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edge.errors import ContextFullError, EngineError, LucieError, UsageError
from edge.fault import BOUNDS
from edge.messages import LANGUAGES, text

if TYPE_CHECKING:
    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

__all__ = [
    "BusyError",
    "HostRefusedError",
    "LoadingError",
    "TooLargeError",
    "TooSlowError",
    "UnknownPathError",
    "WrongMediaTypeError",
    "WrongMethodError",
    "error_body",
    "from_validation",
    "language_of",
]


class TooLargeError(UsageError):
    """The request's body is larger than any prompt can be."""

    status = 413


class TooSlowError(UsageError):
    """The request's body did not arrive in time."""

    status = 408


class WrongMediaTypeError(UsageError):
    """The body is not declared as JSON."""

    status = 415


class HostRefusedError(UsageError):
    """The Host header names another machine: a web page tries to reach in (DNS rebinding)."""

    status = 403


class UnknownPathError(UsageError):
    """Nothing is served at this address."""

    status = 404


class WrongMethodError(UsageError):
    """The address exists, the method does not fit it."""

    status = 405


class BusyError(EngineError):
    """More requests wait than this server keeps."""

    status = 429


class LoadingError(EngineError):
    """The model is still being loaded."""


def language_of(accept: str | None) -> str:
    """The first language of an Accept-Language header that we speak; English else."""
    for item in (accept or "")[:256].split(","):
        code = item.split(";")[0].strip()[:2].lower()
        if code in LANGUAGES:
            return code
    return "en"


def error_body(error: LucieError, lang: str) -> dict[str, Any]:
    """The JSON body that tells `error`."""
    kind = "invalid_request_error" if error.status < 500 else "server_error"
    return {
        "error": {
            "message": text(error.code, lang=lang, **error.facts),
            "type": "rate_limit_error" if error.status == BusyError.status else kind,
            "param": error.facts.get("param"),
            "code": _openai_code(error),
        },
        "lucie": {"code": error.code, "facts": error.facts, "status": error.status},
    }


def _openai_code(error: LucieError) -> str:
    """The word that OpenAI's clients compare with; our entry's name where OpenAI has none."""
    if isinstance(error, ContextFullError):
        return "context_length_exceeded"
    return error.code.partition(".")[2].replace("-", "_")


_JSON_TYPES = {
    "string_type": "string",
    "int_type": "integer",
    "float_type": "number",
    "bool_type": "boolean",
    "list_type": "array",
    "dict_type": "object",
    "model_type": "object",
    "model_attributes_type": "object",
    "none_required": "null",
}


def from_validation(failure: ValidationError, body: Any) -> UsageError:
    """The first thing that is wrong in `body`, told as an error of ours."""
    found = failure.errors(include_url=False, include_input=False)
    # A union complains once for each member; "is no string" is the least telling of them.
    first = min(found, key=lambda detail: detail["type"] in _JSON_TYPES)
    param = _param(first, body)
    kind, context = first["type"], first.get("ctx", {})
    if kind == "extra_forbidden":
        return UsageError("server.unknown-parameter", param=param)
    if kind == "missing":
        return UsageError("server.missing-parameter", param=param)
    if kind in BOUNDS:
        key, sign = BOUNDS[kind]
        return UsageError("server.out-of-range", param=param, bound=f"{sign} {context[key]:.10g}")
    if kind in _JSON_TYPES:
        here = (detail["type"] for detail in found if _param(detail, body) == param)
        types = dict.fromkeys(_JSON_TYPES[kind] for kind in here if kind in _JSON_TYPES)
        types.pop("null", None)  # pydantic never lists it where other types are allowed
        return UsageError("server.wrong-type", param=param, expected=" / ".join(types) or "null")
    if kind in ("literal_error", "union_tag_invalid"):
        known = str(context.get("expected") or context.get("expected_tags"))
        return UsageError("server.wrong-choice", param=param, known=known.replace(" or ", ", "))
    if kind in ("too_long", "string_too_long"):
        return UsageError("server.too-long", param=param, most=context["max_length"])
    if kind in ("too_short", "string_too_short"):
        return UsageError("server.too-short", param=param)
    return UsageError("server.wrong-value", param=param)


def _param(detail: ErrorDetails, body: Any) -> str:
    """Where in the body it is, e.g. `messages[0].content`.

    pydantic's location also names members of unions, which are no part of the body.
    """
    path = ""
    here = body
    for part in detail["loc"]:
        if isinstance(here, list) and isinstance(part, int):
            here = here[part]
            path += f"[{part}]"
        elif isinstance(here, dict) and part in here:
            here = here[part]
            path += f".{part}"
    if detail["type"] == "missing":
        path += f".{detail['loc'][-1]}"
    return path.lstrip(".")[:200]
