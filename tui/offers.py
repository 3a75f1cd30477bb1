"""What this machine offers to use, as the models of a stick, and the choice: files of others."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from edge.errors import UsageError
from tui.untrusted import visible

__all__ = ["Offers"]

_LONGEST = 4000
"""Bytes of one that are read."""
_MOST = 16


@dataclass(frozen=True, slots=True)
class Offers:
    """Files that others write, and the one by which they are told of a choice."""

    folder: Path
    """A file for each; `text` in it says what it is."""
    choice: Path
    """Takes the name of the one that is chosen."""

    def all(self) -> list[tuple[str, str]]:
        """Name and text of each, by name; none, where there is no such folder."""
        try:
            files = sorted(f for f in self.folder.iterdir() if not f.name.startswith("."))
        except OSError:
            return []
        read = ((file.name, _text(file)) for file in files[:_MOST])
        return [(name, text) for name, text in read if text]

    def choose(self, name: str) -> None:
        """Say that this one is chosen.

        Raises:
            UsageError: it cannot be written.
        """
        draft = self.choice.with_name(f".{self.choice.name}.new")
        try:
            draft.write_text(f"{name}\n", encoding="utf-8")
            draft.replace(self.choice)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise UsageError("chat.no-choice", path=str(self.choice), reason=reason) from error


def _text(file: Path) -> str:
    """What it says; nothing, where it has just been taken away or is something else."""
    try:
        with file.open("rb") as opened:
            told = json.loads(opened.read(_LONGEST))
    except (OSError, ValueError):
        return ""
    text = told.get("text") if isinstance(told, dict) else None
    return visible(text).replace("\n", " ") if isinstance(text, str) else ""
