"""A real web server on loopback that serves one file, and misbehaves as it is told."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

__all__ = ["COMMIT", "CONTENT", "PATH", "SHA256", "Hub", "serving"]

CONTENT = b"".join(hashlib.sha256(str(i).encode()).digest() for i in range(40_000))  # 1.28 MB
SHA256 = hashlib.sha256(CONTENT).hexdigest()
PATH = "/o/r/resolve/main/m.gguf"
COMMIT = "c" * 40


@dataclass
class Hub:
    """A real server on loopback, and how it misbehaves."""

    url: str = ""
    content: bytes = CONTENT
    etag: str | None = '"v1"'
    linked: str | None = None
    drop_after: list[int] = field(default_factory=list)
    """For the next answers: bytes after which the line drops."""
    statuses: list[int] = field(default_factory=list)
    """For the next answers: the status instead of the file."""
    ranges: bool = True
    length: bool = True
    redirect: str | None = None
    mute: bool = False
    """Hang up without an answer."""
    hold_after: int | None = None
    """Bytes after which to wait for `release`, telling so by `held`."""
    held: threading.Event = field(default_factory=threading.Event)
    release: threading.Event = field(default_factory=threading.Event)
    seen: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    def starts(self) -> list[str | None]:
        return [headers.get("range") for _, headers in self.seen]


class _Server(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """A client that has heard enough hangs up; that is no news."""


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None: ...

        def do_GET(self) -> None:
            hub.seen.append((self.path, {k.lower(): v for k, v in self.headers.items()}))
            if hub.mute:
                self.close_connection = True
            elif hub.statuses:
                self.plain(hub.statuses.pop(0))
            elif hub.redirect and not self.path.startswith("/cdn"):
                self.plain(302, Location=f"{hub.redirect}/cdn")
            else:
                self.file()

        def plain(self, status: int, **headers: str) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            if status == 302 and hub.linked:
                self.send_header("X-Linked-ETag", f'"{hub.linked}"')
                self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def file(self) -> None:
            start, total = 0, len(hub.content)
            asked = self.headers.get("Range")
            if asked and hub.ranges:
                start = int(asked.removeprefix("bytes=").removesuffix("-"))
                if start >= total:
                    self.send_response(416)
                    self.send_header("Content-Range", f"bytes */{total}")
                    self.tag()
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
            else:
                self.send_response(200)
            self.tag()
            if hub.length:
                self.send_header("Content-Length", str(total - start))
            else:
                self.send_header("Connection", "close")
            self.end_headers()
            body = hub.content[start:]
            if hub.drop_after:
                body = body[: hub.drop_after.pop(0)]
                self.close_connection = True
            if hub.hold_after is not None:
                self.wfile.write(body[: hub.hold_after])
                self.wfile.flush()
                hub.held.set()
                hub.release.wait(30)
                body = body[hub.hold_after :]
            self.wfile.write(body)
            if not hub.length:
                self.close_connection = True

        def tag(self) -> None:
            if hub.etag:
                self.send_header("ETag", hub.etag)

    return Handler


@contextmanager
def serving() -> Iterator[Hub]:
    hub = Hub()
    server = _Server(("127.0.0.1", 0), _handler(hub))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
