"""What this stage says, in the user's language: `locale/`."""

from __future__ import annotations

from pathlib import Path

__all__ = ["FOLDER"]

FOLDER = Path(__file__).parent / "locale"
