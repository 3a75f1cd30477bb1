"""Numbers with units, as a person reads them: SI prefixes, in the user's language."""

from __future__ import annotations

from edge.messages import grouped, language, text

__all__ = ["count_text", "decimal_text", "duration_text", "power_text", "size_text"]

_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_FRENCH_SPACE = "\N{NO-BREAK SPACE}"
"""The Linux console knows no narrow one."""


def size_text(size: int) -> str:
    """Bytes as kB, MB or GB: `36 kB`, `98 MB`, `4.1 GB`; `4,1 Go` in French."""
    if size < 999_500:
        return text("quantity.kilobytes", value=max(min(size, 1), round(size / 1e3)))
    if size < 999_500_000:
        return text("quantity.megabytes", value=round(size / 1e6))
    return text("quantity.gigabytes", value=decimal_text(size / 1e9, 1))


def count_text(value: int) -> str:
    """A whole number with its thousands apart: `134,515,008`; `134 515 008` in French."""
    return grouped(value, language())


def decimal_text(value: float, places: int) -> str:
    """A number with so many decimals: `0.050`; `0,050` in French."""
    shown = f"{value:,.{places:d}f}"
    if not _french():
        return shown
    return shown.replace(",", _FRENCH_SPACE).replace(".", ",")


def power_text(value: float) -> str:
    """A number above 0 of which only the size matters: `4.5·10²⁰`; `4,5·10²⁰` in French."""
    digits, exponent = f"{value:.1e}".split("e")
    return f"{decimal_text(float(digits), 1)}·10{str(int(exponent)).translate(_RAISED)}"


def duration_text(seconds: float) -> str:
    """A time as one plans with it: `40 s`, `12 min`, `3 h 05`."""
    if round(seconds) < 60:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d}"


def _french() -> bool:
    return language() == "fr"
