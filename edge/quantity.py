"""Numbers with units, as a person reads them: SI prefixes, in the user's language."""

from __future__ import annotations

from edge.messages import language, text

__all__ = ["count_text", "size_text"]

_FRENCH_SPACE = "\N{NARROW NO-BREAK SPACE}"


def size_text(size: int) -> str:
    """Bytes as MB or GB: `98 MB`, `4.1 GB`; `4,1 Go` in French."""
    if size < 999_500_000:
        return text("quantity.megabytes", value=max(1, round(size / 1e6)))
    value = f"{size / 1e9:.1f}"
    return text("quantity.gigabytes", value=value.replace(".", ",") if _french() else value)


def count_text(value: int) -> str:
    """A whole number with its thousands apart: `134,515,008`; `134 515 008` in French."""
    return f"{value:,}".replace(",", _FRENCH_SPACE) if _french() else f"{value:,}"


def _french() -> bool:
    return language() == "fr"
