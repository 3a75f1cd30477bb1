"""The picture in the README: a short conversation with the real program and the real model.

Run from the project's folder as `python -m tests.tui.picture OUT.svg`.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from collections.abc import AsyncGenerator, Callable, Sequence
from pathlib import Path
from typing import Any

from edge.client import Client, Message, ModelInfo, Reply
from edge.local import LocalServer
from tui.app import ChatApp
from tui.archive import Archive
from tui.chat_screen import ChatScreen
from tui.source import Source

FIRST = "What is photosynthesis? Answer in one sentence."
SECOND = "Write a Python function that returns the sum of a list."
ENOUGH = 230
"""Characters of the second answer that are waited for: it is taken while it is written."""
CHOICE = {"temperature": 0.0}
"""The same picture each time, on the same machine."""


class _Steady:
    """A connector whose answers are always the likeliest."""

    def __init__(self, model: str | None) -> None:
        self._connector = LocalServer(model)

    async def connect(self, report: Any = None) -> Client:
        return _SteadyClient(await self._connector.connect(report))

    async def aclose(self) -> None:
        await self._connector.aclose()


class _SteadyClient:
    def __init__(self, client: Client) -> None:
        self._client = client

    async def info(self) -> ModelInfo:
        return await self._client.info()

    def chat(
        self, messages: Sequence[Message], options: dict[str, Any] | None = None
    ) -> AsyncGenerator[Reply, None]:
        return self._client.chat(messages, CHOICE)

    async def aclose(self) -> None:
        await self._client.aclose()


async def _until(true: Callable[[], bool], wait: Callable[[float], Any]) -> None:
    while not true():
        await wait(0.05)


async def picture(out: Path, model: str | None) -> None:
    """Ask the questions and save the screen."""
    with tempfile.TemporaryDirectory() as folder:
        archive = Archive(Path(folder) / "history.sqlite3")
        screen = ChatScreen(Source(lambda: _Steady(model)), archive, lambda _: [])
        app = ChatApp(screen)
        async with app.run_test(size=(80, 24)) as pilot:
            await _until(lambda: screen.status_line.status.model is not None, pilot.pause)
            for question in (FIRST, SECOND):
                screen.prompt.insert(question)
                await pilot.press("enter")
                await _until(
                    lambda: screen.prompt.free or len(screen.dialogue.turns[-1].content) > ENOUGH,
                    pilot.pause,
                )
            await pilot.pause(0.2)
            out.write_text(app.export_screenshot(title="lucie"), encoding="utf-8")


if __name__ == "__main__":
    os.environ |= {"COLORTERM": "truecolor", "TERM": "xterm-256color", "LUCIE_LANG": "en"}
    asyncio.run(picture(Path(sys.argv[1]), os.environ.get("LUCIE_TEST_MODEL")))
