"""Tables for people that also read as Markdown, where they are pasted."""

from __future__ import annotations

from collections.abc import Sequence
from io import StringIO

from rich import box
from rich.console import Console
from rich.table import Table

__all__ = ["markdown_table"]

_WIDE = 10_000


def markdown_table(
    headings: Sequence[str], rows: Sequence[Sequence[str]], left: int | frozenset[int] = 1
) -> str:
    """The table, without a line end.

    Args:
        headings: of the columns.
        rows: a cell for each column; text is shown as it is.
        left: which columns stand at the left: the first so many, or these; numbers stand at the
            right.
    """
    made = Table(box=box.MARKDOWN)
    for n, heading in enumerate(headings):
        at_left = n < left if isinstance(left, int) else n in left
        made.add_column(heading, justify="left" if at_left else "right", no_wrap=True)
    for row in rows:
        made.add_row(*(cell.replace("|", "\\|") for cell in row))
    out = StringIO()
    Console(file=out, width=_WIDE, markup=False, highlight=False, emoji=False).print(made)
    lines = (line.rstrip() for line in out.getvalue().splitlines())
    return "\n".join(line for line in lines if line)  # without the box's empty edges
