"""How our own programs talk to a server: the terminal, `lucie run`, tests.

Any OpenAI-compatible server will do; ours adds prefill progress, notices and
timings, asked for by the request field `lucie` and sent as server-sent events
of their own names, so that other clients never see them.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypedDict

__all__ = [
    "MOST_TEXT",
    "OURS",
    "Client",
    "Connector",
    "Delta",
    "Done",
    "Message",
    "ModelInfo",
    "Notice",
    "Progress",
    "Queued",
    "Reply",
    "Starting",
    "size_in_request",
]

OURS = "lucie-edge"
"""What `/health` of our own server calls it, so that nothing of ours is asked of others."""

MOST_TEXT = 1_000_000
"""Bytes of all messages of a request together; our server takes a little more in all."""


def size_in_request(text: str) -> int:
    """Bytes that a text takes in a request."""
    return len(json.dumps(text, ensure_ascii=False).encode("utf-8", "replace"))


class Message(TypedDict):
    """One message of a conversation, as OpenAI's API has it."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What a server runs, as far as it says."""

    name: str
    n_ctx: int | None
    n_params: int | None
    memory_bytes: int | None
    """Resident memory of the server process, where it tells."""


@dataclass(frozen=True, slots=True)
class Starting:
    """A server that is not ready yet: what it does, and how far it is (0 to 1)."""

    stage: Literal["starting", "loading"]
    fraction: float


@dataclass(frozen=True, slots=True)
class Queued:
    """All places are taken; so many requests come first."""

    ahead: int


@dataclass(frozen=True, slots=True)
class Progress:
    """Prefill: `done` of `total` prompt tokens, of which `reused` were not computed."""

    done: int
    total: int
    reused: int


@dataclass(frozen=True, slots=True)
class Delta:
    """More text of the answer."""

    text: str
    tokens: int | None = None
    """Length of the answer by now; None where a foreign server does not say."""


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that the user should know, e.g. that the oldest turns were left out."""

    code: str
    facts: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Done:
    """The answer is complete. What a foreign server does not say is None."""

    reason: str
    prompt_tokens: int | None
    completion_tokens: int | None
    cached_tokens: int | None
    prompt_ms: float | None
    predicted_ms: float | None
    memory_bytes: int | None
    seed: int | None


Reply = Queued | Progress | Delta | Notice | Done


class Client(Protocol):
    """An open connection to one server."""

    async def info(self) -> ModelInfo:
        """What the server runs. Raises `ServerError`, `EngineError`."""

    async def alive(self) -> bool:
        """Whether a server of ours is still there; of another's that is assumed."""

    def chat(
        self, messages: Sequence[Message], options: dict[str, Any] | None = None
    ) -> AsyncGenerator[Reply, None]:
        """Stream one answer; leaving the iteration (aclose, cancel) stops it on the server.

        `options` are OpenAI's request fields (temperature, max_tokens, seed…).
        Raises `LucieError` as the server told it; `EngineError` if the server died meanwhile.
        """

    async def aclose(self) -> None:
        """Close the connection."""


class Connector(Protocol):
    """Where answers come from: a server of our own that is started as needed, or a URL."""

    async def connect(self, report: Any = None) -> Client:
        """A client to a live, ready server; starts one if there is none.

        `report` is called with `Starting` while it is not ready.
        Raises `LucieError` when no server can be had (the text says why and what to do).
        """

    async def aclose(self) -> None:
        """Let go: a server that was started here ends when its last user has gone."""
