"""Diagrams as files: in one style, all or nothing, the same figures in the same bytes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["FORMATS", "INK", "LINE", "PALE", "drawing"]

FORMATS = (".svg", ".png", ".pdf")
INK, LINE, PALE = "#1c5d99", "#c46a1b", "#9db8cf"
_STYLE: dict[Any, Any] = {
    "svg.hashsalt": "lucie",
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
_UNDATED = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}


@contextmanager
def drawing(path: Path, width: float, height: float) -> Iterator[Figure]:
    """A figure to draw in, which becomes the file at the end.

    Args:
        path: the file, whose ending is one of `FORMATS`.
        width: inches.
        height: inches.

    Raises:
        OSError: it cannot be written.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    part = path.with_name(f".{path.stem}.part{path.suffix}")
    with rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure
        try:
            figure.savefig(part, dpi=150, metadata=_UNDATED.get(path.suffix.lower()))
            part.replace(path)
        finally:
            with suppress(OSError):
                part.unlink(missing_ok=True)
