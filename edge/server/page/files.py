"""The page in its reader's language, and the files that it is made of, as responses."""

from __future__ import annotations

import hashlib
import html
import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException
from starlette.responses import Response

from edge.messages import LANGUAGES, entries, text
from edge.server.refusal import language_of

if TYPE_CHECKING:
    from starlette.requests import Request

__all__ = ["page", "page_file"]

_FOLDER = Path(__file__).parent
_TYPES = {
    "answer.js": "text/javascript",
    "chat.css": "text/css",
    "chat.js": "text/javascript",
    "conversation.js": "text/javascript",
    "icon.svg": "image/svg+xml",
    "markdown.js": "text/javascript",
}
_PLACE = re.compile(r"\{\{([a-z.-]+)\}\}")
_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        # No string becomes HTML, in the browsers that know this.
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    ]
)
_HEADERS = {
    "cache-control": "no-cache",  # that is: keep it, and ask whether it is still this one
    "content-security-policy": _POLICY,
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    # A class that opens the page at once would else hold most of the server's connections.
    "connection": "close",
}


@dataclass(frozen=True, slots=True)
class _Content:
    """A body and what names it: dates of files are those of the installation, so no use."""

    body: bytes
    etag: str


def page(request: Request) -> Response:
    """`GET /`: in the language of `?lang=`, else in that of the browser."""
    lang = request.query_params.get("lang", "")
    if lang not in LANGUAGES:
        lang = language_of(request.headers.get("accept-language"))
    more = {"content-language": lang, "vary": "accept-language"}
    return _response(request, _page(lang), "text/html", more)


def page_file(request: Request) -> Response:
    """`GET /page/NAME`."""
    name = request.path_params["name"]
    if name not in _TYPES:
        raise HTTPException(404)
    return _response(request, _file(name), _TYPES[name])


def _response(
    request: Request, content: _Content, media_type: str, more: dict[str, str] | None = None
) -> Response:
    headers = {**_HEADERS, **(more or {}), "etag": content.etag}
    if content.etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    headers["content-type"] = f"{media_type}; charset=utf-8"
    return Response(content.body, headers=headers)


@cache
def _file(name: str) -> _Content:
    return _named((_FOLDER / name).read_bytes())


@cache
def _page(lang: str) -> _Content:
    """The page with its texts; those that the script says stand in it as JSON."""
    # "<" would let a text end the element that it stands in.
    said = json.dumps(entries("talk", lang), ensure_ascii=False, separators=(",", ":"))
    said = said.replace("<", "\\u003c")
    other = next(other for other in LANGUAGES if other != lang)
    filled = {"lang": lang, "other": other, "texts": said}

    def fill(place: re.Match[str]) -> str:
        name = place[1]
        return filled[name] if name in filled else html.escape(text(name, lang=lang))

    source = (_FOLDER / "chat.html").read_text(encoding="utf-8")
    return _named(_PLACE.sub(fill, source).encode())


def _named(body: bytes) -> _Content:
    return _Content(body, f'"{hashlib.sha256(body).hexdigest()[:20]}"')
