"""What this stage says, in the user's language: `locale/`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edge.messages import text

__all__ = ["FOLDER", "say"]

FOLDER = Path(__file__).parent / "locale"


def say(code: str, /, **facts: Any) -> str:
    """The text of `code`, as `subject.entry`."""
    return text(code, folder=FOLDER, **facts)
