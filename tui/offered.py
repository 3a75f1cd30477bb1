"""The screen with what this machine offers: a list, and the choice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.screen import Screen
from textual.widgets import OptionList, Static

from tui.sizes import fit
from tui.status import KeyLine
from tui.words import say

if TYPE_CHECKING:
    from textual.app import ComposeResult
    from textual.events import Resize

    from tui.offers import Offer

__all__ = ["Offered"]


class Offered(Screen["str | None"]):
    """All that is offered; dismissed with the name of what is chosen, or None.

    Args:
        offered: the lines of the list.
    """

    AUTO_FOCUS = "OptionList"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "back", show=False),
        Binding("f4,q", "dismiss", show=False),
    ]

    def __init__(self, offered: Sequence[Offer]) -> None:
        super().__init__()
        self._offered = offered
        self._question = Static(id="question", markup=False)
        self._keys = KeyLine()
        self._asked: Offer | None = None

    def compose(self) -> ComposeResult:
        """The list, and what becomes of a choice."""
        yield Static(say("offered.title"), id="title", markup=False)
        yield OptionList(*(offer.text for offer in self._offered), markup=False)
        yield self._question
        yield self._keys

    def on_mount(self) -> None:
        """Name the keys."""
        self._idle(self._offered[0] if self._offered else None)

    def on_resize(self, event: Resize) -> None:
        """Fit a small screen."""
        fit(self, event.size)

    def on_option_list_option_highlighted(self, event: OptionList.OptionHighlighted) -> None:
        """Say what becomes of it; forget a question that was about another one."""
        self._idle(self._offered[event.option_index])

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Choose it; ask first, where that cannot be taken back."""
        chosen = self._offered[event.option_index]
        if not chosen.ask or self._asked is chosen:
            self.dismiss(chosen.name)
        else:
            self._asked = chosen
            self._question.update(chosen.ask)
            self._say_keys("yes")

    def action_back(self) -> None:
        """Out of a question, or out of the list."""
        if self._asked is not None:
            self._idle(self._asked)
        else:
            self.dismiss(None)

    def _idle(self, highlighted: Offer | None) -> None:
        self._asked = None
        if highlighted is None:
            self._question.update(say("offered.none"))
            self._say_keys()
        else:
            # What is asked about says itself what becomes of it.
            self._question.update("" if highlighted.ask else say("offered.what"))
            self._say_keys("choose" if highlighted.ask else "use")

    def _say_keys(self, *enter: str) -> None:
        keys = [(say("status.key-enter"), say(f"offered.{label}")) for label in enter]
        self._keys.keys = [*keys, (say("status.key-esc"), say("status.back"))]
