"""What is known of the model: who made it, from what, under which licence."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.screen import Screen
from textual.widgets import Static

from edge.about import server_facts
from edge.errors import LucieError
from edge.messages import language, text
from tui.sizes import fit
from tui.status import KeyLine
from tui.untrusted import visible
from tui.words import say

if TYPE_CHECKING:
    from textual.app import ComposeResult
    from textual.events import Resize

    from edge.client import ModelInfo

__all__ = ["About"]


class About(Screen[None]):
    """Facts about the model, as far as they are known.

    Args:
        info: what the server says; None before it has been reached.
        describe: what else is known; called in a thread, as it reads files.
    """

    AUTO_FOCUS = "VerticalScroll"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,f1,q", "dismiss", show=False)]

    def __init__(
        self, info: ModelInfo | None, describe: Callable[[ModelInfo], Sequence[tuple[str, str]]]
    ) -> None:
        super().__init__()
        self._info = info
        self._describe = describe
        self._facts = VerticalScroll(id="facts")
        self._not_yet = Static(say("about.not-yet"), classes="fact", markup=False)
        self._keys = KeyLine()

    def compose(self) -> ComposeResult:
        """One scrolling area."""
        yield Static(text("about.title"), id="title", markup=False)
        yield self._facts
        yield self._keys

    def on_mount(self) -> None:
        """Say what the server said; what the disk says comes after it."""
        self._keys.keys = [(say("status.key-esc"), say("status.back"))]
        self._facts.mount(Static(text("about.ai"), classes="fact", markup=False))
        if self._info is None:
            self._facts.mount(self._not_yet)
        else:
            self._show(self._info)

    def on_resize(self, event: Resize) -> None:
        """Fit a small screen."""
        fit(self, event.size)

    def tell(self, info: ModelInfo) -> None:
        """The server has been reached meanwhile."""
        if self._info is None and self.is_mounted:
            self._info = info
            self._not_yet.remove()
            self._show(info)

    def _show(self, info: ModelInfo) -> None:
        self._add(server_facts(info, language()))
        self.run_worker(self._read(info))

    async def _read(self, info: ModelInfo) -> None:
        try:
            more = await asyncio.to_thread(self._describe, info)
        except LucieError as error:  # the model has been removed meanwhile, and runs on
            more = [("", str(error))]
        self._add(more or [("", text("about.nothing"))])

    def _add(self, facts: Sequence[tuple[str, str]]) -> None:
        self._facts.mount_all(
            Horizontal(
                Static(label, classes="label", markup=False),
                Static(visible(value), classes="value", markup=False),
                classes="fact",
            )
            for label, value in facts
        )
