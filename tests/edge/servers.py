"""Server processes for tests, and raw requests to them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

SCRIPTED = Path(__file__).with_name("scripted_server.py")
_DEADLINE_S = 60


@dataclass
class Running:
    """A server process."""

    process: subprocess.Popen[str]
    socket: Path

    @property
    def address(self) -> str:
        return f"unix:{self.socket}"

    def http(self) -> httpx.Client:
        return httpx.Client(
            transport=httpx.HTTPTransport(uds=str(self.socket)), base_url="http://localhost"
        )

    def post(self, path: str, body: Any = None, **more: Any) -> httpx.Response:
        with self.http() as http:
            return (
                http.post(path, json=body, **more) if body is not None else http.post(path, **more)
            )

    def health(self) -> dict[str, Any]:
        with self.http() as http:
            return http.get("/health").json()

    def connect(self) -> socket.socket:
        opened = socket.socket(socket.AF_UNIX)
        opened.settimeout(_DEADLINE_S)
        opened.connect(str(self.socket))
        return opened

    def cpu_s(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def until(true: Callable[[], Any]) -> Any:
    """Wait until something is so; returns it."""
    end = time.monotonic() + _DEADLINE_S
    while not (value := true()):
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)
    return value


def answers(path: Path) -> bool:
    """Whether a server accepts connections at a socket."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


@contextmanager
def running(
    path: Path, *command: str, ready: bool = True, env: dict[str, str] | None = None
) -> Iterator[Running]:
    """`command` while the block lasts; it listens at `path`."""
    with subprocess.Popen(
        [sys.executable, *command], stderr=subprocess.PIPE, text=True, env=env
    ) as process:
        server = Running(process, path)
        try:
            until(lambda: process.poll() is not None or answers(path))
            assert process.poll() is None, process.stderr.read()
            if ready:
                until(lambda: server.health().get("status") == "ok")
            yield server
        finally:
            process.send_signal(signal.SIGCONT)
            process.terminate()
            process.wait(_DEADLINE_S)


@contextmanager
def scripted(folder: Path, *arguments: str, ready: bool = True) -> Iterator[Running]:
    """A server over a scripted engine."""
    path = folder / "s.sock"
    with running(path, str(SCRIPTED), str(path), *arguments, ready=ready) as server:
        yield server


def request(path: str, body: bytes, *headers: str) -> bytes:
    """A raw POST."""
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", "Content-Type: application/json"]
    lines += [f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def read_all(opened: socket.socket) -> bytes:
    """Everything until the other side closes."""
    parts = []
    while part := opened.recv(65536):
        parts.append(part)
    return b"".join(parts)
