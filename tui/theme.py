"""Colours: our own where the terminal has many, the terminal's own 16 where it has few."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.theme import Theme

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["LUCIE", "theme_for"]

LUCIE = Theme(
    name="lucie",
    primary="#7aa2d6",
    secondary="#9ccfa4",
    accent="#7aa2d6",
    foreground="#d8dbe2",
    background="#15171c",
    surface="#1c1f26",
    panel="#2a2e37",
    success="#8fbf8f",
    warning="#d9b36c",
    error="#e08a8a",
    dark=True,
)


def theme_for(console: Console) -> str:
    """Name of the theme for this terminal.

    The Linux console has 16 colours (Textual docs, "Linux console"); so has what
    says nothing of more in TERM or COLORTERM.
    """
    return LUCIE.name if console.color_system in ("256", "truecolor") else "ansi-dark"
