"""Small screens: what they do without is said in `chat.tcss` by three classes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from textual.geometry import Size
    from textual.screen import Screen

__all__ = ["fit"]

_SHORT = 18
"""Screens with fewer lines do without a title."""
_TINY = 12
"""Screens with fewer lines do without the line of keys."""
_NARROW = 60


def fit(screen: Screen[Any], size: Size) -> None:
    """Set the classes for this size.

    Textual's breakpoints do the same, but also add a class to a screen of ordinary
    size, so that its first frame would be styled twice.
    """
    screen.set_class(size.height < _SHORT, "-short")
    screen.set_class(size.height < _TINY, "-tiny")
    screen.set_class(size.width < _NARROW, "-narrow")
