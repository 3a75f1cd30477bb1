"""The list of conversations: open one, rename it, delete it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.content import Content
from textual.screen import Screen
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from edge.errors import HistoryError
from tui.sizes import fit
from tui.status import KeyLine
from tui.untrusted import visible
from tui.words import number, say

if TYPE_CHECKING:
    from textual.app import ComposeResult
    from textual.events import Resize

    from edge.history import Conversation

__all__ = ["ConversationList"]


class ConversationList(Screen["Conversation | None"]):
    """All conversations; dismissed with the one to open, or None.

    Args:
        load: all conversations, the one spoken in last first.
        rename: gives one another title.
        delete: deletes one.
        elsewhere: whether another machine answers, which may keep what this one forgets.
    """

    AUTO_FOCUS = "OptionList"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "back", show=False),
        Binding("r", "rename", show=False),
        Binding("delete,d", "delete", show=False),
    ]

    def __init__(
        self,
        load: Callable[[], Awaitable[Sequence[Conversation]]],
        rename: Callable[[Conversation, str], Awaitable[None]],
        delete: Callable[[Conversation], Awaitable[None]],
        *,
        elsewhere: bool,
    ) -> None:
        super().__init__()
        self._load = load
        self._rename = rename
        self._delete = delete
        self._elsewhere = elsewhere
        self._conversations: Sequence[Conversation] = ()
        self._list = OptionList(markup=False)
        self._title = Input(id="rename", compact=True)
        self._question = Static(id="question", markup=False)
        self._keys = KeyLine()
        self._doomed: Conversation | None = None

    def compose(self) -> ComposeResult:
        """The list, and a line below it for what is being done."""
        yield Static(say("conversations.title"), id="title", markup=False)
        yield self._list
        yield self._question
        yield self._title
        yield self._keys

    def on_mount(self) -> None:
        """Read the list."""
        self._title.display = False
        self._idle()
        self.run_worker(self._fill())

    def on_resize(self, event: Resize) -> None:
        """Fit a small screen."""
        fit(self, event.size)

    async def _fill(self) -> None:
        at = self._list.highlighted or 0
        try:
            self._conversations = await self._load()
        except HistoryError as error:
            self._question.update(str(error))
            return
        self._list.clear_options()
        self._list.add_options([Option(_line(c)) for c in self._conversations])
        if self._conversations:
            self._list.highlighted = min(at, len(self._conversations) - 1)
        else:
            self._question.update(say("conversations.none"))

    @property
    def _chosen(self) -> Conversation | None:
        at = self._list.highlighted
        return None if at is None else self._conversations[at]

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Open the conversation."""
        self.dismiss(self._conversations[event.option_index])

    def on_option_list_option_highlighted(self) -> None:
        """Forget a question that was about another one."""
        if self._doomed is not None:
            self._idle()

    def action_back(self) -> None:
        """Out of a question, or out of the list."""
        if self._doomed is not None or self._title.display:
            self._idle()
        else:
            self.dismiss(None)

    def action_rename(self) -> None:
        """Ask for another title."""
        if (chosen := self._chosen) is not None:
            self._idle()
            self._title.value = visible(chosen.title)
            self._title.display = True
            self._title.focus()
            self._say_keys(("enter", "rename"), ("esc", "back"))

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Rename, unless the title was emptied."""
        chosen, title = self._chosen, event.value.strip()
        self._idle()
        if chosen is not None and title:
            self.run_worker(self._do(self._rename(chosen, title)))

    def action_delete(self) -> None:
        """Ask, and delete when asked again."""
        chosen = self._chosen
        if chosen is None or self._title.display:
            return
        if self._doomed is chosen:
            self._idle()
            self.run_worker(self._do(self._delete(chosen)))
        else:
            self._doomed = chosen
            title = visible(chosen.title) or say("chat.untitled")
            code = "conversations.delete-here" if self._elsewhere else "conversations.delete"
            self._question.update(say(code, title=title, messages=number(chosen.messages)))
            self._say_keys(("delete", "delete"), ("esc", "back"))

    async def _do(self, work: Awaitable[None]) -> None:
        try:
            await work
        except HistoryError as error:
            self._question.update(str(error))
            return
        await self._fill()

    def _idle(self) -> None:
        self._doomed = None
        self._title.display = False
        self._question.update("")
        self._list.focus()
        self._say_keys(("enter", "open"), ("r", "rename"), ("delete", "delete"), ("esc", "back"))

    def _say_keys(self, *keys: tuple[str, str]) -> None:
        self._keys.keys = [
            (key.upper() if len(key) == 1 else say(f"status.key-{key}"), say(f"status.{label}"))
            for key, label in keys
        ]


def _line(conversation: Conversation) -> Content:
    when = conversation.updated.astimezone()
    today = when.date() == datetime.now(when.tzinfo).date()
    stamp = f"{when:%H:%M}" if today else f"{when:%Y-%m-%d}"
    title = visible(conversation.title) or say("chat.untitled")
    return Content.assemble((f"{stamp:>10}", "dim"), f"  {title}")
