"""The conversation on the screen: one scrolling area that draws the lines in view.

One widget draws all messages line by line, so neither typing nor streaming slows
down as a conversation grows. Of a long one only the newest entries are laid out;
earlier ones come when the user scrolls up to them.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, ClassVar

from textual.content import Content
from textual.geometry import Region, Size
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.style import Style
from textual.visual import Visual

from tui.entries import Answer, Entry, Remark
from tui.words import number, say

if TYPE_CHECKING:
    from textual.selection import Selection
    from textual.timer import Timer

__all__ = ["Transcript"]

_INTERVAL_S = 1 / 8
"""Between two paintings of an answer that grows."""
_SHARE = 4
"""Pause at least this many times as long as the last painting took: a slow board
needs its processor for the answer itself."""
_PAGE = 30
"""Entries that are laid out at first, and how many come at a time on scrolling up."""
_MEASURE = 96
"""Cells of a line at most: longer ones are hard to read."""


class Transcript(ScrollView, can_focus=False):
    """Entries from the oldest to the newest; it stays at the end unless scrolled up."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "bar-done", "bar-left", "error", "md-block", "md-code", "md-em", "md-heading", "md-link",
        "md-mark", "md-quote", "md-strike", "md-strong", "md-title", "notice", "remark", "user",
        "user-mark", "welcome",
    }  # fmt: skip

    def __init__(self) -> None:
        super().__init__(id="transcript")
        self._entries: list[Entry] = []
        self._first = 0
        """Entries before this one are not laid out."""
        self._shown: list[tuple[Content, Sequence[Content]]] = []
        """Lead and lines of each entry, as they were last painted."""
        self._starts: list[int] = [0]
        """Line at which each shown entry begins; the last is the height of all."""
        self._laid_for = 0
        """Width of those lines."""
        self._drawn: list[Content] = []
        """Lines in view when they were last painted."""
        self._following = True
        """Whether the end stays in view."""
        self._painted = 0.0
        self._cost = 0.0
        self._timer: Timer | None = None

    @property
    def entries(self) -> list[Entry]:
        """All entries, also those not laid out."""
        return list(self._entries)

    def show(self, entries: list[Entry]) -> None:
        """Replace everything; the end is in view."""
        self._entries = entries
        self._first = max(0, len(entries) - _PAGE)
        self._following = True
        self._paint()

    def add(self, entry: Entry, before: Entry | None = None) -> None:
        """Add an entry before another, or after all others and bring that into view."""
        self._following |= before is None
        at = len(self._entries) if before is None else self._entries.index(before)
        self._entries.insert(at, entry)
        if len(self._entries) - self._first > 2 * _PAGE:
            first = len(self._entries) - _PAGE
            for hidden in self._entries[self._first : first]:
                hidden.rest()
            self._first = first
        self._paint()

    def take_out(self, entry: Entry) -> None:
        """Take an entry out."""
        self._entries.remove(entry)
        self._first = min(self._first, len(self._entries))
        self._paint()

    def write(self, answer: Answer, text: str) -> None:
        """Add to an answer; what comes fast is painted together."""
        answer.write(text)
        self._paint_soon()

    def changed(self, *, now: bool = False) -> None:
        """An entry has changed otherwise: paint it in its turn, or at once."""
        if now:
            self._paint_now()
        else:
            self._paint_soon()

    @property
    def text(self) -> str:
        """All lines that are laid out, as they are shown."""
        return "\n".join(self._line(y).plain for y in range(self._starts[-1]))

    def _paint_soon(self) -> None:
        if self._timer is None:
            pause = max(_INTERVAL_S, _SHARE * self._cost)
            wait = max(self._painted + pause - time.monotonic(), 0.0)
            if wait:
                self._timer = self.set_timer(wait, self._paint_now)
            else:
                self._paint_now()

    def _paint_now(self) -> None:
        if self._timer is not None:
            self._timer.stop()
            self._timer = None
        self._paint()

    def _paint(self) -> None:
        began = time.monotonic()
        self._index()
        if self._following:
            self.scroll_end(animate=False, immediate=True)
        self._refresh_changed()
        self._painted = time.monotonic()
        self._cost = self._painted - began

    def _refresh_changed(self) -> None:
        """Have the lines drawn again that are not what they were: a slow line has few bytes."""
        top = self.scroll_offset.y
        lines = [self._line(top + row) for row in range(self.size.height)]
        drawn, self._drawn = self._drawn, lines
        for row, line in enumerate(lines):
            if row >= len(drawn) or not line.is_same(drawn[row]):
                self.refresh(Region(0, row, self.size.width, 1))

    def _index(self) -> None:
        if not self.size.width:
            return  # there is no screen yet
        width = self._laid_for = self._width
        entries = self._entries[self._first :]
        if self._first:
            entries.insert(0, Remark(say("chat.earlier", count=number(self._first)), ".remark"))
        self._shown = [(entry.lead, entry.lines(width)) for entry in entries]
        # A blank line after each.
        self._starts = [0, *accumulate(len(lines) + 1 for _, lines in self._shown)]
        self.virtual_size = Size(self.scrollable_content_region.width, self._starts[-1])
        self._refresh_scrollbars()

    @property
    def _width(self) -> int:
        # One cell is left free beside the scroll bar.
        room = self.scrollable_content_region.width - len(Entry.lead) - 1
        return max(1, min(room, _MEASURE))

    def _line(self, y: int) -> Content:
        at = bisect_right(self._starts, y) - 1
        if at >= len(self._shown):
            return Content()
        lead, lines = self._shown[at]
        line = y - self._starts[at]
        return lead + lines[line] if line < len(lines) else Content()

    def render_line(self, y: int) -> Strip:
        """The line at `y` of the screen area (Textual's line API)."""
        if self._laid_for != self._width:
            self._lay_out_anew()  # the first frame comes before the first Resize
        y += self.scroll_offset.y
        width = self.size.width
        line = self._line(y)
        selection = self.text_selection
        if selection is not None and (span := selection.get_span(y)) is not None:
            start, end = span
            style = Style.from_styles(self.screen.get_component_styles("screen--selection"))
            line = line.stylize(style, start, len(line) if end == -1 else end)
        strips = Visual.to_strips(self, line, width, 1, self.visual_style, apply_selection=False)
        base = self.rich_style
        strip = strips[0] if strips else Strip.blank(width, base)
        return strip.crop_extend(0, width, base).apply_offsets(0, y)

    def get_selection(self, selection: Selection) -> tuple[str, str] | None:
        """The text that was selected with the mouse."""
        return selection.extract(self.text), "\n"

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Follow the end when it is reached; bring earlier entries at the top."""
        super().watch_scroll_y(old_value, new_value)
        self._following = new_value >= self.max_scroll_y
        if new_value <= 0 < old_value and self._first:
            below = self._starts[-1]
            self._first = max(0, self._first - _PAGE)
            self._index()
            self.scroll_to(y=self._starts[-1] - below, animate=False, immediate=True)

    def on_resize(self) -> None:
        """Lay out at the new width, with the same entry in view."""
        self._lay_out_anew()

    def _lay_out_anew(self) -> None:
        following = self._following
        at = max(0, bisect_right(self._starts, self.scroll_offset.y) - 1)
        self._index()
        if following:
            self.scroll_end(animate=False, immediate=True)
        else:
            self.scroll_to(y=self._starts[min(at, len(self._starts) - 1)], animate=False)
        self._following = following
        self.refresh()
