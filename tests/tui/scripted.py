"""A server that says what a script tells it to, for tests of the screen."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Any

from edge.client import Client, Delta, Done, Message, ModelInfo, Progress, Reply, Starting
from edge.errors import LucieError

INFO = ModelInfo("smollm2-135m-instruct", 2048, 134_515_008, 205 * 2**20)


def done(**changes: Any) -> Done:
    """The end of an answer."""
    facts = {
        "reason": "stop", "prompt_tokens": 24, "completion_tokens": 8, "cached_tokens": 0,
        "prompt_ms": 150.0, "predicted_ms": 125.0, "memory_bytes": 210 * 2**20, "seed": 1,
    }  # fmt: skip
    return Done(**(facts | changes))


class Pause:
    """In a script: wait here until the test lets it go on."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.go_on = asyncio.Event()


Step = Reply | Starting | LucieError | Pause
WORDS = [Progress(24, 24, 0), Delta("A tree "), Delta("is a *plant*."), done()]


async def play(step: Pause) -> None:
    step.reached.set()
    await step.go_on.wait()


class ScriptedServer:
    """Connector and client in one. Each connection and each answer takes its next script."""

    def __init__(
        self, *answers: Sequence[Step], connects: Sequence[Sequence[Step]] = (), info: Any = INFO
    ) -> None:
        self.answers = list(answers)
        self.connects = list(connects)
        self.told = info
        self.asked: list[list[Message]] = []
        self.connections = 0
        self.left: list[int] = []
        """Answers, by number, that the chat left before their end."""
        self.closed = False
        self.dead: set[int] = set()
        """Connections, by number, that have ended unseen."""

    async def connect(self, report: Any = None) -> Client:
        self.connections += 1
        for step in self.connects.pop(0) if self.connects else ():
            match step:
                case Starting():
                    report(step)
                case Pause():
                    await play(step)
                case LucieError():
                    raise step
        return _Client(self)

    async def aclose(self) -> None:
        self.closed = True


class _Client:
    def __init__(self, server: ScriptedServer) -> None:
        self._server = server

    async def info(self) -> ModelInfo:
        if isinstance(self._server.told, LucieError):
            raise self._server.told
        return self._server.told

    async def alive(self) -> bool:
        return self._server.connections not in self._server.dead

    async def chat(
        self, messages: Sequence[Message], options: dict[str, Any] | None = None
    ) -> AsyncGenerator[Reply, None]:
        server = self._server
        server.asked.append([*messages])
        number = len(server.asked)
        server.left.append(number)
        for step in server.answers.pop(0) if server.answers else WORDS:
            match step:
                case Pause():
                    await play(step)
                case LucieError():
                    raise step
                case _:
                    yield step
            await asyncio.sleep(0)
        server.left.remove(number)

    async def aclose(self) -> None:
        pass
