"""Sockets to listen on: opened before the model is loaded, so that a refusal comes at once."""

from __future__ import annotations

import errno
import os
import socket
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from edge.errors import ServerError, UsageError

__all__ = ["MAX_SOCKET_PATH", "Listener", "listen_tcp", "listen_unix"]

MAX_SOCKET_PATH = 107
"""Bytes that a Unix socket's path may have: `sun_path` holds 108 with its end mark."""
_UNREACHED_MS = 20_000
"""How long what was sent may wait to be taken; a stream sends something every ten seconds."""


@dataclass(frozen=True, slots=True)
class Listener:
    """A socket that listens."""

    socket: socket.socket
    address: str
    """For the reader and for our clients: a URL, or `unix:PATH`."""
    hosts: frozenset[str] | None
    """Names that a Host header may say; None where any will do."""
    page: str | None = None
    """URL of the page to chat on, for a browser; None where none reaches it."""
    path: Path | None = None
    """The Unix socket's file."""
    inode: int = 0
    """That file's, as another server may come to own the path."""

    def remove(self) -> None:
        """Take the socket's file away, if it is still ours."""
        if self.path is None:
            return
        with suppress(FileNotFoundError):
            if self.path.stat().st_ino == self.inode:
                self.path.unlink()


def listen_tcp(host: str, port: int) -> Listener:
    """Listen on a TCP port; 0 takes a free one.

    Raises:
        UsageError: there is no such host.
        ServerError: the port is taken or may not be opened.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except UnicodeError as error:  # a part of it is empty or too long
        raise UsageError("serve.bad-host", host=host) from error
    except socket.gaierror as error:
        raise UsageError("serve.no-such-host", host=host, reason=error.strerror) from error
    family, kind, protocol, _, address = found[0]
    opened = socket.socket(family, kind, protocol)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # As its connections take it over: one whose other side is out of reach ends, and its answer.
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNREACHED_MS)
    try:
        opened.bind(address)
        opened.listen(128)
    except OSError as error:
        opened.close()
        taken = error.errno == errno.EADDRINUSE
        code = "serve.port-taken" if taken else "serve.port-refused"
        raise ServerError(code, host=host, port=port, reason=error.strerror or "") from error
    bound, port = opened.getsockname()[:2]
    named = f"[{bound}]" if family == socket.AF_INET6 else bound
    hosts = {"localhost", "127.0.0.1", "[::1]", host.lower(), named}
    at = ip_address(bound)
    reached = _of_this_machine(family) if at.is_unspecified else bound
    page = f"http://[{reached}]:{port}/" if ":" in reached else f"http://{reached}:{port}/"
    return Listener(
        opened, f"http://{named}:{port}", frozenset(hosts) if at.is_loopback else None, page
    )


def _of_this_machine(family: socket.AddressFamily) -> str:
    """The address by which others most likely reach this machine."""
    outside = "2001:db8::1" if family == socket.AF_INET6 else "192.0.2.1"
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((outside, 9))  # of a datagram socket: finds a route and sends nothing
        except OSError:
            return "localhost"
        return str(probe.getsockname()[0])


def listen_unix(path: Path) -> Listener:
    """Listen on a Unix socket that only its owner may use.

    Raises:
        UsageError: the path is too long, or something else stands there.
        ServerError: a server listens there already, or the folder refuses it.
    """
    path = path.absolute()
    if len(os.fsencode(path)) > MAX_SOCKET_PATH:
        raise UsageError("serve.path-too-long", path=str(path), most=MAX_SOCKET_PATH)
    opened = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # The mode is right from the first moment; chmod would come a moment too late.
    umask = os.umask(0o177)
    try:
        _remove_stale(path)
        opened.bind(str(path))
        opened.listen(128)
    except OSError as error:
        opened.close()
        reason = error.strerror or ""
        raise ServerError("serve.socket-refused", path=str(path), reason=reason) from error
    except (ServerError, UsageError):
        opened.close()
        raise
    finally:
        os.umask(umask)
    return Listener(opened, f"unix:{path}", None, None, path, path.stat().st_ino)


def _remove_stale(path: Path) -> None:
    """Make way where a dead server's socket stands."""
    if not path.exists():
        return
    if not path.is_socket():
        raise UsageError("serve.not-a-socket", path=str(path))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(2)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise ServerError("serve.socket-taken", path=str(path))
