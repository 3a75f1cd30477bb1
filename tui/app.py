"""The program around the screens: colours, keys that work everywhere, and the end."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from textual.app import App
from textual.binding import Binding, BindingType

from tui.pasted import PasteParser
from tui.theme import LUCIE, theme_for
from tui.words import say

if TYPE_CHECKING:
    from textual.driver import Driver
    from textual.screen import Screen

    from tui.chat_screen import ChatScreen

__all__ = ["ChatApp"]


class ChatApp(App[None]):
    """The terminal chat.

    Args:
        chat: the screen that it opens with.
    """

    CSS_PATH = "chat.tcss"
    TITLE = "Lucie"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+q", "quit", show=False, priority=True),
        Binding("ctrl+c", "interrupt", show=False, priority=True),
    ]

    def __init__(self, chat: ChatScreen) -> None:
        super().__init__()
        self.register_theme(LUCIE)
        # Before any style is read; an assignment would have all of them read twice.
        self.set_reactive(App.theme, theme_for(self.console))
        self.ansi_color = self.current_theme.ansi
        self.stylesheet.set_variables(self.get_css_variables())
        self.chat = chat
        self._leaving = False
        self._event_loop: asyncio.AbstractEventLoop | None = None

    def get_driver_class(self) -> type[Driver]:
        """The terminal's, which makes its parser by this name and takes no other."""
        driver = super().get_driver_class()
        names = vars(sys.modules[driver.__module__])
        if "XTermParser" in names:
            names["XTermParser"] = PasteParser
        return driver

    def get_default_screen(self) -> Screen[Any]:
        """The conversation."""
        return self.chat

    def on_mount(self) -> None:
        """Be ready for signals."""
        self._event_loop = asyncio.get_running_loop()

    async def on_unmount(self) -> None:
        """Save even when something else than the user ends the program."""
        await self._finish()

    async def action_quit(self) -> None:
        """Save and leave; where the disk takes nothing, the user decides."""
        if await self.chat.may_leave():
            await self.leave(0)

    async def action_interrupt(self) -> None:
        """As in a shell: stop what runs, else drop what is typed, else leave."""
        if self.screen is not self.chat or not self.chat.interrupt():
            await self.action_quit()

    async def leave(self, code: int) -> None:
        """Save and leave with this exit code."""
        line = self.chat.status_line
        line.status = replace(line.status, state=say("status.saving"), mood="busy")
        await self._finish()
        self.exit(return_code=code)

    def leave_soon(self, code: int) -> None:
        """`leave`, from a signal handler."""
        if self._event_loop is None:
            raise SystemExit(code)
        self._event_loop.call_soon_threadsafe(self.call_next, self.leave, code)

    async def _finish(self) -> None:
        if not self._leaving:
            self._leaving = True
            await self.chat.finish()
