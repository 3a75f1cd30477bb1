"""One file over HTTP: resumed where it stopped, hashed on the way, complete or absent.

While it comes it is `NAME.part` with `NAME.part.json` beside it, which says what
file the part is of; both outlast Ctrl-C, a dropped line and a full disk. A part
is only continued when the server says that it still serves that very file.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx

from edge.errors import StoreError
from edge.http_reason import reason_of
from edge.partial import Part, Served
from edge.progress import Progress

__all__ = ["SPARE", "Fetched", "Want", "check_space", "download"]

SPARE = 64 << 20
"""Bytes of disk to leave free: a full disk stops more than a download."""
_TRIES = 5
"""Failures in a row, with nothing received between them, before giving up."""
_RESTARTS = 3
"""How often to begin again because the server does not continue the part."""
_TIMEOUT = httpx.Timeout(60, connect=30)
_RANGE = re.compile(r"bytes (?:(\d+)-\d+|\*)/(\d+)")
"""`Content-Range` of an answer 206, or of 416 (RFC 9110, 14.4)."""
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Want:
    """What the file must be, as far as it is known before."""

    sha256: str | None = None
    size: int | None = None


@dataclass(frozen=True, slots=True)
class Fetched:
    """A file that has arrived whole."""

    path: Path
    sha256: str
    size: int
    source: str
    """Where it came from, as exactly as the source tells."""


def check_space(folder: Path, needed: int) -> None:
    """Raise `StoreError` unless `needed` bytes fit on the disk of `folder`, with some to spare."""
    free = shutil.disk_usage(folder).free
    if free < needed + SPARE:
        raise StoreError(
            "store.no-space",
            path=str(folder),
            needed=_mb(needed + SPARE),
            spare=_mb(SPARE),
            free=_mb(free),
        )


def _mb(size: int) -> int:
    return -(-size // 1_000_000)


def download(
    url: str,
    target: Path,
    want: Want,
    *,
    source: str,
    headers: Mapping[str, str] | None = None,
    progress: Progress | None = None,
    pause: float = 1.0,
) -> Fetched:
    """Fetch `url` to `target`.

    Args:
        url: followed through redirects; `headers` go to its own host only.
        target: the file, in a folder that is there.
        want: what it must be.
        source: how the user calls it, for messages.
        headers: of the request.
        progress: called as bytes arrive.
        pause: seconds before the first new try; doubles with each.

    Raises:
        StoreError: it cannot be had, or is not what was wanted. What can be continued stays.
    """
    job = _Job(url, dict(headers or {}), want, source, progress)
    part = Part(target.with_name(f"{target.name}.part"))
    with part, httpx.Client(follow_redirects=True, timeout=_TIMEOUT) as client:
        served = _persist(client, job, part, pause)
        _check(part, want, served, source)
        part.finish(target)
    exactly = f"{source.partition('@')[0]}@{served.commit}" if served.commit else source
    return Fetched(target, part.sha256, part.size, exactly)


@dataclass(frozen=True, slots=True)
class _Job:
    """The arguments of `download` that every request needs."""

    url: str
    headers: dict[str, str]
    want: Want
    source: str
    progress: Progress | None


def _persist(client: httpx.Client, job: _Job, part: Part, pause: float) -> Served:
    """Ask until all has come, or until there is no hope."""
    failures, begun = 0, False
    while part.restarts < _RESTARTS:
        before = part.size
        try:
            if served := _transfer(client, job, part):
                return served
        except (httpx.InvalidURL, httpx.UnsupportedProtocol):
            raise StoreError("store.bad-address", source=job.source) from None
        except httpx.TooManyRedirects:
            raise StoreError("store.circle", source=job.source) from None
        except httpx.TransportError as error:
            arrived = part.size > before
            begun = begun or arrived
            failures = 1 if arrived else failures + 1
            # No network, or no such host: waiting would only keep the next source waiting.
            hopeless = isinstance(error, httpx.ConnectError) and not begun
            if hopeless or failures >= _TRIES:
                raise StoreError(
                    "store.unreachable", source=job.source, reason=reason_of(error)
                ) from None
            time.sleep(pause * 2 ** (failures - 1))
    raise StoreError("store.changing", source=job.source)


def _transfer(client: httpx.Client, job: _Job, part: Part) -> Served | None:
    """One request: append what comes to `part`. None: `part` is of another file, begin again."""
    # Compressed bytes could neither be counted nor continued.
    headers = {**job.headers, "Accept-Encoding": "identity"}
    if part.size:
        headers["Range"] = f"bytes={part.size}-"
    with client.stream("GET", job.url, headers=headers) as response:
        if job.url.startswith("https:") and response.url.scheme != "https":
            raise StoreError("store.insecure", source=job.source, host=response.url.host)
        served = _served(response)
        if response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE and part.size:
            if part.completes(served):
                return served
            part.restart()
            return None
        _check_status(response, job.source)
        if not part.continues(served):
            if served.start != 0:
                part.restart()
                return None
            if part.size:
                part.restart()
        expected = job.want.size
        if expected is not None and served.size not in (None, expected):
            raise _wrong_size(job.source, served.size, expected)
        part.expect(served)
        total = served.size or expected
        check_space(part.path.parent, (total or 0) - part.size)
        _receive(response, job, part, total)
    return served


def _receive(response: httpx.Response, job: _Job, part: Part, total: int | None) -> None:
    if job.progress:
        job.progress(part.size, total)
    for block in response.iter_raw():  # as it comes: gathering larger blocks loses them on a drop
        part.append(block)
        if total is not None and part.size > total:
            size = part.size
            part.restart()
            raise _wrong_size(job.source, size, total)
        if job.progress:
            job.progress(part.size, total)


def _wrong_size(source: str, size: int | None, expected: int) -> StoreError:
    return StoreError("store.wrong-size", source=source, size=size, expected=expected)


def _check_status(response: httpx.Response, source: str) -> None:
    code = response.status_code
    if code in (httpx.codes.OK, httpx.codes.PARTIAL_CONTENT):
        return
    if code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
        raise StoreError("store.forbidden", source=source, status=code)
    if code == httpx.codes.NOT_FOUND:
        raise StoreError("store.not-found", source=source)
    if code == httpx.codes.TOO_MANY_REQUESTS or response.is_server_error:
        raise httpx.ReadError(f"HTTP {code}")  # worth another try
    raise StoreError("store.http", source=source, status=code)


def _served(response: httpx.Response) -> Served:
    """What the answer, or the redirect before it, says of the file.

    Hugging Face answers with a redirect to a storage host and tells in `X-Linked-*` of that
    first answer what the file is: for large files the ETag is its SHA-256 (huggingface_hub,
    `HfFileMetadata`).
    """
    answers = [*response.history, response]
    first = next((a.headers for a in answers if "X-Linked-ETag" in a.headers), response.headers)
    etag = first.get("X-Linked-ETag") or first.get("ETag") or ""
    identity = etag.removeprefix("W/").strip('"')
    start, size = "0", response.headers.get("Content-Length")
    if found := _RANGE.fullmatch(response.headers.get("Content-Range", "")):
        start, size = found[1], found[2]
    linked = "X-Linked-ETag" in first and _SHA256.fullmatch(identity)
    commit = first.get("X-Repo-Commit", "")
    return Served(
        identity=identity or None,
        size=int(size) if size and size.isdigit() else None,
        start=int(start) if start else None,
        sha256=identity if linked else None,
        commit=commit if _COMMIT.fullmatch(commit) else None,
    )


def _check(part: Part, want: Want, served: Served, source: str) -> None:
    if want.size is not None and part.size != want.size:
        size = part.size
        part.restart()
        raise _wrong_size(source, size, want.size)
    expected = want.sha256 or served.sha256
    if expected and part.sha256 != expected:
        found = part.sha256
        part.restart()
        raise StoreError("store.wrong-hash", source=source, sha256=found, expected=expected)
