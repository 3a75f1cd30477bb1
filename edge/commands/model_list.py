"""One line about a model, for `lucie models list` and `lucie doctor`."""

from __future__ import annotations

from edge.inventory import Item
from edge.messages import text
from edge.quantity import size_text

__all__ = ["row", "row_json"]

_NAME_WIDTH = 24


def row(item: Item) -> str:
    """Name, size, whether it is here and fits; a star marks the one that is meant by default."""
    star = "*" if item.is_default else " "
    size = size_text(item.size) if item.size else "?"
    if item.model is None:
        state = "to-be-had" if item.fits else "too-large"
    elif item.problem is None:
        state = "here"
    else:
        state = "here-unusable" if item.fits else "here-too-large"
    return f"{star} {item.name:<{_NAME_WIDTH}} {size:>8}  {text(f'models.{state}')}"


def row_json(item: Item) -> dict[str, object]:
    """The same as data."""
    return {
        "name": item.name,
        "here": item.model is not None,
        "default": item.is_default,
        "path": str(item.model.path) if item.model else None,
        "size": item.size,
        "fits": item.fits,
        "problem": str(item.problem) if item.problem else None,
    }
