"""Escape characters in a pasted text, as coloured logs have, are text.

Between the brackets of a paste (xterm, "Bracketed Paste Mode") Textual's parser still
takes them for keys: the rest of the text is lost, reordered or sent. So it never
sees them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from textual._xterm_parser import BRACKETED_PASTE_END, BRACKETED_PASTE_START, XTermParser

if TYPE_CHECKING:
    from textual.message import Message

__all__ = ["PasteParser"]

_ESC, _PICTURE = "\x1b", "\u241b"


class PasteParser(XTermParser):
    """Textual's parser of what a terminal sends; a paste may hold anything."""

    def __init__(self, debug: bool = False) -> None:
        super().__init__(debug)
        self._inside = False
        self._tail = ""
        """Outside, the last characters; inside, what may be the beginning of the end."""

    def feed(self, data: str) -> Iterable[Message]:
        """The events in `data`; an empty one is the end of all."""
        text = self._literal(data)
        return super().feed(text) if text or not data else ()

    def _literal(self, data: str) -> str:
        """`data`, with the escape characters of pastes as pictures."""
        parts = []
        while data:
            if self._inside:
                text, end, data = (self._tail + data).partition(BRACKETED_PASTE_END)
                self._tail = "" if end else _beginning(text, BRACKETED_PASTE_END)
                text = text.removesuffix(self._tail)
                parts += [text.replace(_ESC, _PICTURE), end]
                self._inside = not end
            else:
                # Nothing is kept back: a lone escape is the key Esc.
                seen = self._tail + data
                start = seen.find(BRACKETED_PASTE_START)
                self._inside = start >= 0
                passed = len(data)
                if self._inside:
                    passed = start + len(BRACKETED_PASTE_START) - len(self._tail)
                self._tail = "" if self._inside else _beginning(seen, BRACKETED_PASTE_START)
                parts.append(data[:passed])
                data = data[passed:]
        return "".join(parts)


def _beginning(text: str, marker: str) -> str:
    """The longest end of `text` that `marker` begins with, short of all of it."""
    for n in range(len(marker) - 1, 0, -1):
        if text.endswith(marker[:n]):
            return marker[:n]
    return ""
