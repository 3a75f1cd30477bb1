"""What stands in a transcript: each entry as lines of a given width."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from textual.content import Content

from tui.lines import fold, wrap
from tui.untrusted import visible

__all__ = ["Answer", "Entry", "Remark", "Said"]

_BAR = 20
"""Cells of a progress bar."""


class Entry(ABC):
    """A part of a transcript. Its lines are kept until its text or the width changes."""

    lead = Content("  ")
    """What stands before each line."""

    def __init__(self) -> None:
        self._width: int | None = None
        self._lines: Sequence[Content] = ()

    def lines(self, width: int) -> Sequence[Content]:
        """Lines of at most `width` cells, the lead not counted."""
        if width != self._width:
            self._lines = self._lay_out(width)
            self._width = width
        return self._lines

    def changed(self) -> None:
        """Lay out anew when the lines are next asked for."""
        self._width = None

    def rest(self) -> None:
        """Free the lines of an entry that is not shown for now."""
        self._lines = ()
        self._width = None

    @abstractmethod
    def _lay_out(self, width: int) -> list[Content]: ...


class Said(Entry):
    """What the user said, as it was typed."""

    lead = Content.styled("▌ ", ".user-mark")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = visible(text)

    def _lay_out(self, width: int) -> list[Content]:
        lines = (Content.styled(line, ".user") for line in self.text.split("\n"))
        # Indentation is kept where there is any: it may be code.
        return [
            part
            for line in lines
            for part in (fold if line.plain.startswith((" ", "\t")) else wrap)(line, width)
        ]


class Remark(Entry):
    """What the program itself says."""

    def __init__(self, text: str, style: str) -> None:
        super().__init__()
        self.text = visible(text)
        self._style = style

    def _lay_out(self, width: int) -> list[Content]:
        return wrap(Content.styled(self.text, self._style), width)


class Answer(Entry):
    """What the model says: Markdown that may still be growing, and how it fares."""

    def __init__(self, text: str = "") -> None:
        super().__init__()
        self.text = text
        self._sheet: _Sheet | None = None
        self._doing: tuple[str, float | None, str] | None = None
        self._note: Content | None = None

    def write(self, text: str) -> None:
        """Add more text."""
        self.text += text
        self._doing = None
        self.changed()

    def doing(self, what: str, fraction: float | None = None, figures: str = "") -> None:
        """Say what is being waited for, below the text."""
        self._doing = what, fraction, figures
        self.changed()

    def end(self, note: str = "", style: str = "") -> None:
        """No more comes; say below the text why, if there is anything to say."""
        self._doing = None
        self._note = Content.styled(visible(note), style) if note else None
        self.changed()

    def rest(self) -> None:
        """Also free what was parsed."""
        super().rest()
        self._sheet = None

    def _lay_out(self, width: int) -> list[Content]:
        if self._sheet is None or self._sheet.width != width:
            self._sheet = _Sheet(width)
        lines = self._sheet.lines(self.text)
        below = []
        if self._doing is not None:
            below = [_progress(*self._doing, width)]
        elif self._note is not None:
            below = wrap(self._note, width)
        return [*lines, *([Content()] if lines and below else []), *below]


class _Sheet:
    """A growing text laid out at one width; what is settled is laid out once."""

    def __init__(self, width: int) -> None:
        from tui.markdown import Source

        self.width = width
        self._source = Source()
        self._read = 0
        self._settled: list[Content] = []
        self._blocks = 0

    def lines(self, text: str) -> list[Content]:
        """The lines of `text`, which begins with what was given before."""
        from tui.blocks import lay_out

        self._source.append(text[self._read :])
        self._read = len(text)
        for block in self._source.settled[self._blocks :]:
            self._settled += [*lay_out([block], self.width), Content()]
        self._blocks = len(self._source.settled)
        return self._settled + lay_out(self._source.last, self.width)


def _progress(what: str, fraction: float | None, figures: str, width: int) -> Content:
    line = Content.styled(what, ".remark")
    room = width - line.cell_length - len(figures) - 4
    if fraction is not None and room > 0:
        cells = min(_BAR, room)
        done = round(cells * min(max(fraction, 0.0), 1.0))
        line += "  " + Content.styled("█" * done, ".bar-done")
        line += Content.styled("░" * (cells - done), ".bar-left")
    if figures:
        line += Content.styled(f"  {figures}", ".remark")
    return line.truncate(width)
