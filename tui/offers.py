"""What this machine offers to use, as the models of a stick, and the choice: files of others."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from edge.errors import UsageError
from tui.untrusted import visible

__all__ = ["Offer", "Offers"]

_LONGEST = 4000
"""Bytes of one that are read."""
_MOST = 16


@dataclass(frozen=True, slots=True)
class Offer:
    """Something to choose."""

    name: str
    """Of its file."""
    text: str
    """What it is."""
    ask: str
    """What is asked before it is chosen; nothing, where a choice may be taken back."""


@dataclass(frozen=True, slots=True)
class Offers:
    """Files that others write, and the one by which they are told of a choice."""

    folder: Path
    """A file for each; `text` in it says what it is, `ask` what is asked before it is chosen."""
    choice: Path
    """Takes the name of the one that is chosen."""

    def all(self) -> list[Offer]:
        """All of them, by name; none, where there is no such folder."""
        try:
            files = sorted(f for f in self.folder.iterdir() if not f.name.startswith("."))
        except OSError:
            return []
        return [offer for file in files[:_MOST] if (offer := _read(file)).text]

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


def _read(file: Path) -> Offer:
    """What it says; nothing, where it has just been taken away or is something else."""
    try:
        with file.open("rb") as opened:
            told = json.loads(opened.read(_LONGEST))
    except (OSError, ValueError):
        told = None
    told = told if isinstance(told, dict) else {}
    return Offer(file.name, _line(told.get("text")), _line(told.get("ask")))


def _line(told: object) -> str:
    return visible(told).replace("\n", " ") if isinstance(told, str) else ""
