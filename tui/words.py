"""What the chat says, in the language of the screen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edge.messages import grouped, language, text

__all__ = ["decimal", "mebibytes", "number", "say"]

_FOLDER = Path(__file__).parent / "locale"


def say(code: str, **facts: Any) -> str:
    """The text of `tui/locale` under `subject.entry`, with `facts` filled in."""
    return text(code, folder=_FOLDER, **facts)


def number(value: int) -> str:
    """A whole number with its thousands apart: 2,048 in English, 2 048 in French."""
    return grouped(value, language())


def decimal(value: float) -> str:
    """A number with one decimal place."""
    return f"{value:.1f}".replace(".", "," if language() == "fr" else ".")


def mebibytes(size: int) -> str:
    """A size in MiB, or Mio, the same unit in French."""
    return text("about.mebibytes", size=round(size / 2**20))
