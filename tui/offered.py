"""The screen with what this machine offers to use: a list, and the choice."""

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

__all__ = ["Offered"]


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
