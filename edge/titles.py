"""What a conversation is called until somebody names it."""

from __future__ import annotations

__all__ = ["title_from"]

_LONGEST = 60


def title_from(content: str) -> str:
    """The first line of `content` that is not blank, shortened."""
    line = next((line for line in content.splitlines() if line.strip()), "")
    words = " ".join(line.split())
    return words if len(words) <= _LONGEST else words[: _LONGEST - 1].rstrip() + "…"
