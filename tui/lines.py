"""Text broken into lines of a given width, in cells of the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from textual.content import Content

__all__ = ["fold", "wrap"]


def wrap(content: Content, width: int) -> list[Content]:
    """`content` broken at words, and inside a word that is wider than a line."""
    if not content:
        return [content]
    return content.wrap(width)


def fold(content: Content, width: int) -> list[Content]:
    """`content` broken at newlines and wherever a line is full; spaces are kept."""
    lines: list[Content] = []
    for line in content.split(allow_blank=True):
        lines += line.expand_tabs(4).fold(width)
    return lines
