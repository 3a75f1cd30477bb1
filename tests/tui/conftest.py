"""The chat on a screen of a known size and colours, with a scripted server behind it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from edge.history import History
from tests.tui.scripted import ScriptedServer
from tui.app import ChatApp
from tui.archive import Archive
from tui.chat_screen import ChatScreen
from tui.source import Source


@pytest.fixture(autouse=True)
def _colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLORTERM", "truecolor")
    monkeypatch.delenv("NO_COLOR", raising=False)


@pytest.fixture
def path(home: Path) -> Path:
    """Where the history is."""
    return home / "data" / "history.sqlite3"


class Chat:
    """A running chat, and what a person does with it."""

    def __init__(self, app: ChatApp, pilot: Pilot[None]) -> None:
        self.app = app
        self.main = app.chat
        self.pilot = pilot

    @property
    def text(self) -> str:
        """The transcript, also what is scrolled out of view."""
        return self.main.transcript.text

    @property
    def toasts(self) -> str:
        """What is told in passing."""
        return "\n".join(toast.message for toast in self.app._notifications)

    @property
    def state(self) -> str:
        return self.main.status_line.status.state

    async def type(self, text: str) -> None:
        self.main.prompt.insert(text)
        await self.pilot.pause()

    async def say(self, text: str) -> None:
        """Type and send."""
        await self.type(text)
        await self.pilot.press("enter")
        await self.pilot.pause()  # on a busy machine the key may not have been seen yet

    async def until(self, true: Callable[[], object], seconds: float = 10.0) -> None:
        """Wait for what must happen sooner or later."""
        async with asyncio.timeout(seconds):
            while not true():
                await self.pilot.pause(0.01)
        await self.pilot.pause()

    async def until_shown(self, text: str) -> None:
        await self.until(lambda: text in self.text)

    async def until_answered(self) -> None:
        await self.until(lambda: self.main._answering is None)
        await self.until(lambda: not self.app.workers._workers)


Chatting = Callable[..., AbstractAsyncContextManager[Chat]]


@pytest.fixture
def chatting(path: Path) -> Chatting:
    """Run the chat: `async with chatting(server) as chat`."""

    @asynccontextmanager
    async def run(
        server: ScriptedServer | None = None,
        *,
        size: tuple[int, int] = (80, 24),
        facts: Any = (("Licence", "Apache-2.0"),),
        **options: Any,
    ) -> AsyncIterator[Chat]:
        served = server or ScriptedServer()
        app = ChatApp(
            ChatScreen(Source(lambda: served), Archive(path), lambda _: list(facts), **options)
        )
        async with app.run_test(size=size) as pilot:
            yield Chat(app, pilot)

    return run


def kept(path: Path) -> list[list[tuple[str, str, str]]]:
    """Role, content and state of all messages of all conversations, the newest first."""
    history = History.open(path)
    try:
        return [
            [(m.role, m.content, m.state) for m in history.load(c.id)]
            for c in history.conversations()
        ]
    finally:
        history.close()
