"""Where the user types."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.message import Message
from textual.strip import Strip
from textual.widgets import TextArea

from edge.client import MOST_TEXT, size_in_request
from tui.untrusted import visible
from tui.words import say

if TYPE_CHECKING:
    from textual.events import Key, Paste

__all__ = ["Prompt"]


class Prompt(TextArea):
    """Some lines of text; Enter sends them. It grows with what is typed, up to a limit."""

    BINDINGS: ClassVar[list[BindingType]] = [
        # Ctrl-J is what a terminal sends for a newline; few tell Shift-Enter from Enter.
        Binding("pageup", "screen.scroll(-1)", show=False, priority=True),
        Binding("pagedown", "screen.scroll(1)", show=False, priority=True),
        Binding("ctrl+j,alt+enter,shift+enter", "newline", show=False),
    ]

    @dataclass
    class Submitted(Message):
        """The user wants to send what was typed."""

        text: str

    @dataclass
    class TooEarly(Message):
        """The user wants to send while `free` is not set."""

    @dataclass
    class TooLong(Message):
        """More was pasted or typed than can be sent."""

        characters: int

    def __init__(self) -> None:
        super().__init__(
            id="prompt", compact=True, highlight_cursor_line=False, placeholder=say("chat.prompt")
        )
        # A blinking cursor would wake the board twice a second.
        self.cursor_blink = False
        self.free = True
        """Whether something may be sent; cleared by sending."""

    def render_line(self, y: int) -> Strip:
        """One line; nothing where the screen leaves no column (Textual 8.2.8 divides by them)."""
        return super().render_line(y) if self.content_size.width > 0 else Strip([])

    def put(self, text: str) -> None:
        """Replace what is typed, the cursor behind it."""
        self.text = text
        self.move_cursor(self.document.end)

    def on_key(self, event: Key) -> None:
        """Enter sends, in its turn: a priority binding would overtake what was typed before."""
        if event.key == "enter":
            event.prevent_default()
            event.stop()
            self._submit()

    def _submit(self) -> None:
        if not self.text.strip():
            return
        if not self.free:
            self.post_message(self.TooEarly())
            return
        if size_in_request(self.text) > MOST_TEXT:
            self.post_message(self.TooLong(len(self.text)))
            return
        self.free = False
        # Emptied here, as what is typed next may come before the message is handled.
        self.post_message(self.Submitted(self.text.strip("\n")))
        self.clear()

    def action_newline(self) -> None:
        """Begin a new line."""
        self.insert("\n")

    def on_paste(self, event: Paste) -> None:
        """Insert what was pasted, without what a terminal would obey."""
        event.prevent_default()
        event.stop()
        if len(event.text) > MOST_TEXT:  # which would also take several times its size to show
            self.post_message(self.TooLong(len(event.text)))
            return
        self.replace(visible(event.text), *self.selection)
        self.scroll_cursor_visible()
