"""Blocks of Markdown as lines of a given width, in cells of the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from textual.content import Content

from tui.lines import fold, wrap
from tui.markdown import Block, Code, Heading, List, Paragraph, Quote, Rule, Table

__all__ = ["lay_out"]

_SHADE = "on $panel"
"""Of code. Textual 8.2.8 drops an opaque background of a component class in a span."""
_LEAST = 8
"""Cells that text and columns of tables need; what leaves fewer is not indented any more."""


def lay_out(blocks: Sequence[Block], width: int, *, tight: bool = False) -> list[Content]:
    """The lines of `blocks`, a blank one between two of them unless `tight`.

    No line is wider than max(width, 8) cells.
    """
    width = max(width, _LEAST)
    lines: list[Content] = []
    for block in blocks:
        if lines and not tight:
            lines.append(Content())
        lines += _block(block, width)
    return lines


def _block(block: Block, width: int) -> list[Content]:
    match block:
        case Paragraph(content):
            return wrap(content, width)
        case Heading(level, content):
            style = ".md-title" if level <= 2 else ".md-heading"
            return wrap(content.stylize_before(style), width)
        case Code():
            return _code(block, width)
        case Quote(blocks):
            bar = Content.styled("│ ", ".md-mark")
            inner = _nested(bar, bar, blocks, width)
            return [line.stylize_before(".md-quote") for line in inner]
        case List():
            return _list(block, width)
        case Table():
            return _table(block, width)
        case Rule():
            return [Content.styled("─" * width, ".md-mark")]


def _code(code: Code, width: int) -> list[Content]:
    lines = []
    if code.language:
        lines = [Content.styled(f" {code.language}", ".md-mark").truncate(width)]
    lines += [Content(" ") + line for line in fold(Content(code.text), width - 2)]
    full = (line.extend_right(max(width - line.cell_length, 0)) for line in lines)
    return [line.stylize_before(".md-block").stylize_before(_SHADE) for line in full]


def _nested(
    first: Content, others: Content, blocks: Sequence[Block], width: int, *, tight: bool = False
) -> list[Content]:
    """Blocks behind a lead; below it where there is no room beside it."""
    room = width - first.cell_length
    if room < _LEAST:
        return [first.truncate(width), *lay_out(blocks, width, tight=tight)]
    lines = lay_out(blocks, room, tight=tight) or [Content()]
    return [(others if number else first) + line for number, line in enumerate(lines)]


def _list(block: List, width: int) -> list[Content]:
    lines: list[Content] = []
    indent = max(len(marker) for marker in block.markers) + 1
    for marker, item in zip(block.markers, block.items, strict=True):
        if lines and not block.tight:
            lines.append(Content())
        lead = Content.styled(f"{marker:>{indent - 1}} ", ".md-mark")
        lines += _nested(lead, Content(" " * indent), item, width, tight=block.tight)
    return lines


def _table(table: Table, width: int) -> list[Content]:
    widths = _columns(table, width)
    if widths is None:
        return _records(table, width)
    bar = Content.styled(" │ ", ".md-mark")
    lines: list[Content] = []
    for number, row in enumerate(table.rows):
        cells = [
            wrap(cell.stylize_before(".md-strong") if number == 0 else cell, column)
            for cell, column in zip(row, widths, strict=True)
        ]
        for at in range(max(map(len, cells))):
            parts = [
                _pad(cell[at] if at < len(cell) else Content(), column, right)
                for cell, column, right in zip(cells, widths, table.right, strict=True)
            ]
            lines.append(bar.join(parts))
        if number == 0:
            rule = "─┼─".join("─" * column for column in widths)
            lines.append(Content.styled(rule, ".md-mark"))
    return lines


def _records(table: Table, width: int) -> list[Content]:
    """A table that is wider than the screen: each cell on lines of its own, behind its head."""
    head, *rows = table.rows
    lines: list[Content] = []
    for row in rows:
        if lines:
            lines.append(Content())
        for name, cell in zip(head, row, strict=True):
            lines += wrap(name.stylize_before(".md-strong") + ": " + cell, width)
    return lines


def _columns(table: Table, width: int) -> list[int] | None:
    """Widths of the columns: their widest cell, the widest ones narrowed until all fit."""
    widths = [
        max(1, *(line.cell_length for row in table.rows for line in row[column].split()))
        for column in range(len(table.right))
    ]
    excess = sum(widths) + 3 * (len(widths) - 1) - width
    while excess > 0:
        widest = max(widths)
        if widest <= _LEAST:
            return None
        cut = min(excess, max(1, (widest - _LEAST) // 4))
        widths[widths.index(widest)] -= cut
        excess -= cut
    return widths


def _pad(line: Content, width: int, right: bool) -> Content:
    room = max(width - line.cell_length, 0)
    return line.pad_left(room) if right else line.pad_right(room)
