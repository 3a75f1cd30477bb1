"""What this machine offers to use, as the models of a stick: a list, and the choice."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.screen import Screen
from textual.widgets import OptionList, Static

from edge.errors import UsageError
from tui.sizes import fit
from tui.status import KeyLine
from tui.untrusted import visible
from tui.words import say

if TYPE_CHECKING:
    from textual.app import ComposeResult
    from textual.events import Resize

__all__ = ["Offered", "Offers"]

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


class Offered(Screen["str | None"]):
    """All that is offered; dismissed with the name of what is chosen, or None.

    Args:
        offered: name and text of each.
    """

    AUTO_FOCUS = "OptionList"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,f4,q", "dismiss", show=False)]

    def __init__(self, offered: Sequence[tuple[str, str]]) -> None:
        super().__init__()
        self._offered = offered
        self._keys = KeyLine()

    def compose(self) -> ComposeResult:
        """The list, and what becomes of a choice."""
        yield Static(say("offered.title"), id="title", markup=False)
        yield OptionList(*(text for _, text in self._offered), markup=False)
        yield Static(say("offered.what" if self._offered else "offered.none"), id="question",
                     markup=False)  # fmt: skip
        yield self._keys

    def on_mount(self) -> None:
        """Name the keys."""
        back = (say("status.key-esc"), say("status.back"))
        use = (say("status.key-enter"), say("offered.use"))
        self._keys.keys = [use, back] if self._offered else [back]

    def on_resize(self, event: Resize) -> None:
        """Fit a small screen."""
        fit(self, event.size)

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Choose it."""
        self.dismiss(self._offered[event.option_index][0])
