"""What a corpus is to be, and what is meant where nothing is said."""

from __future__ import annotations

from dataclasses import dataclass

from pretrain.split import HELD_OUT

__all__ = ["LANGUAGES", "LIMIT_MB", "Settings"]

LANGUAGES = ("en", "fr", "de", "es", "it", "code")
"""What the builder has text of, `code` being no language of people."""
LIMIT_MB = 8.0
"""So that no source of a language is more than a part of it."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a corpus is to be."""

    languages: tuple[str, ...] = LANGUAGES
    """Some of `LANGUAGES`."""
    sources: tuple[str, ...] = ()
    """Names of the catalogue; empty: all that can be had here."""
    limit_mb: float | None = LIMIT_MB
    """Millions of bytes of text of each source and language at most; None: no limit."""
    heldout: float = HELD_OUT
    """Share of documents that are held out."""
