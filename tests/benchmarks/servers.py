"""Two servers to measure, ours and llama.cpp's, and a client that takes the time."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks.measure import LUCIE
from tests.benchmarks.referee import Referee

__all__ = ["N_CTX", "Answer", "Server", "ask", "ask_together", "lucie", "referee"]

N_CTX = 4096
"""Context of both servers, in tokens, for all that is computed at once."""
_THREADS = "2"
_NEVER_END = {"0": -100, "2": -100}
"""SmolLM2's end tokens, forbidden: every answer is as long as it was asked to be."""


@dataclass(frozen=True, slots=True)
class Server:
    """A server that answers at a port of this machine."""

    pid: int
    port: int


@dataclass(frozen=True, slots=True)
class Answer:
    """What one answer took, by the client's clock, in seconds."""

    first: float
    """From sending the request to the first piece of text."""
    whole: float
    tokens: int
    prompt_tokens: int
    text: str

    @property
    def decode(self) -> float:
        """Tokens per second after the first."""
        return (self.tokens - 1) / (self.whole - self.first)


@contextmanager
def lucie(model: Path, home: Path, *, parallel: int = 4) -> Iterator[Server]:
    """Our server, its files below `home`."""
    port = _free_port()
    command = [
        *(str(LUCIE), "serve", "--model", str(model), "--port", str(port)),
        *("--parallel", str(parallel), "--ctx-size", str(N_CTX)),
        *("--threads", _THREADS, "--threads-batch", _THREADS),
    ]
    with _running(command, port, {"LUCIE_HOME": str(home)}) as server:
        yield server


@contextmanager
def referee(
    programs: Referee, model: Path, *, parallel: int = 4, unified: bool = False
) -> Iterator[Server]:
    """llama.cpp's server, without what ours does not have: page, and prompts kept in RAM.

    Args:
        programs: where it is.
        model: what it serves.
        parallel: answers at once.
        unified: one conversation may fill the context, as in ours; by default each has its part.
    """
    port = _free_port()
    command = [
        *(str(programs.server), "-m", str(model), "--port", str(port), "--offline"),
        *("--parallel", str(parallel), "-c", str(N_CTX), "-t", _THREADS, "-tb", _THREADS),
        *("--no-ui", "--cache-ram", "0", "--kv-unified" if unified else "--no-kv-unified"),
    ]
    with _running(command, port, {}) as server:
        yield server


@contextmanager
def _running(command: Sequence[str], port: int, env: Mapping[str, str]) -> Iterator[Server]:
    with (
        tempfile.TemporaryFile() as log,
        subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**os.environ, **env}
        ) as child,
    ):
        try:
            _until_ready(child, command[0], port)
            yield Server(child.pid, port)
        except BaseException:
            log.seek(0)
            sys.stderr.write(log.read().decode(errors="replace")[-2000:])
            raise
        finally:
            child.terminate()
            child.wait(30)


def _until_ready(child: subprocess.Popen[bytes], name: str, port: int) -> None:
    for _ in range(600):
        if child.poll() is not None:
            raise SystemExit(f"{name} ended with {child.returncode}")
        try:
            if _get(port, "/health") == http.client.OK:
                return
        except OSError:
            pass  # it does not listen yet
        time.sleep(0.1)
    raise SystemExit(f"{name} is not ready after a minute")


def _get(port: int, path: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    finally:
        connection.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def ask(server: Server, what: str | Sequence[Mapping[str, str]], n: int) -> Answer:
    """Have `n` tokens chosen greedily behind a text or a conversation."""
    chat = not isinstance(what, str)
    body: dict[str, Any] = {
        "messages" if chat else "prompt": what,
        "max_tokens": n,
        "temperature": 0,
        "logit_bias": _NEVER_END,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=600)
    path = "/v1/chat/completions" if chat else "/v1/completions"
    began = time.perf_counter()
    connection.request("POST", path, json.dumps(body), {"content-type": "application/json"})
    response = connection.getresponse()
    if response.status != http.client.OK:
        raise SystemExit(f"{response.status}: {response.read().decode(errors='replace')}")
    first, last = 0.0, 0.0
    usage: dict[str, int] = {}
    pieces: list[str] = []
    for line in response:
        if not line.startswith(b"data: {"):
            continue
        now = time.perf_counter() - began
        event = json.loads(line[6:])
        usage = event.get("usage") or usage
        for choice in event["choices"]:
            piece = choice["delta"].get("content") if chat else choice["text"]
            if piece:
                first, last = first or now, now
                pieces.append(piece)
    connection.close()
    return Answer(first, last, usage["completion_tokens"], usage["prompt_tokens"], "".join(pieces))


def ask_together(server: Server, texts: Sequence[str], n: int) -> float:
    """Tokens per second of all answers together, from the first request to the last token."""
    began = time.perf_counter()
    with ThreadPoolExecutor(len(texts)) as clients:
        answers = list(clients.map(lambda text: ask(server, text, n), texts))
    return sum(answer.tokens for answer in answers) / (time.perf_counter() - began)
