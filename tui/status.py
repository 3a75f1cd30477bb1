"""The two lines below the prompt: how things stand, and which keys do what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal

from textual.content import Content
from textual.reactive import reactive
from textual.widget import Widget

from tui.untrusted import visible
from tui.words import decimal, mebibytes, number, say

if TYPE_CHECKING:
    from textual.app import RenderResult

    from edge.client import ModelInfo, Starting

__all__ = ["KeyLine", "Status", "StatusLine", "described", "starting"]


@dataclass(frozen=True, slots=True)
class Status:
    """How things stand; what is not known is None."""

    state: str
    """A short text."""
    mood: Literal["ready", "busy", "fault"] = "ready"
    """What the state amounts to, shown by a colour."""
    model: str | None = None
    used: int | None = None
    """Tokens of context in use."""
    window: int | None = None
    """Tokens of context there are."""
    speed: float | None = None
    """Tokens per second of the answer, prompt not counted."""
    memory: int | None = None
    """Bytes of memory of the engine."""


def starting(status: Status, report: Starting) -> Status:
    """While the server comes up."""
    percent = round(report.fraction * 100)
    return replace(status, state=say(f"status.{report.stage}", percent=percent), mood="busy")


def described(status: Status, info: ModelInfo) -> Status:
    """With what the server told of itself."""
    memory = info.memory_bytes if status.memory is None else status.memory
    return replace(status, model=info.name, window=info.n_ctx, memory=memory)


class StatusLine(Widget):
    """State on the left, figures on the right; on a narrow screen the last of them go first."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"ready", "busy", "fault", "figures"}

    status: reactive[Status] = reactive(Status(""))

    def render(self) -> RenderResult:
        """Draw for the width there is."""
        now = self.status
        mark = Content.styled("● ", f".{now.mood}")
        left = mark + Content.styled(now.state, ".figures")
        figures = _figures(now)
        room = self.size.width - left.cell_length - 2
        while figures and len("  ".join(figures)) > room:
            figures.pop()
        right = Content.styled("  ".join(figures), ".figures")
        gap = self.size.width - left.cell_length - right.cell_length
        return (left + " " * max(gap, 0) + right).truncate(self.size.width, ellipsis=True)


def _figures(status: Status) -> list[str]:
    """The most wanted first."""
    figures = []
    if status.used is not None and (status.used or status.window is not None):
        used, window = number(status.used), status.window
        figures.append(
            say("status.context-used", used=used)
            if window is None
            else say("status.context", used=used, window=number(window))
        )
    if status.speed is not None:
        figures.append(say("status.speed", speed=decimal(status.speed)))
    if status.model is not None:
        figures.append(visible(status.model))
    if status.memory is not None:
        figures.append(mebibytes(status.memory))
    return figures


_GAP = 3


class KeyLine(Widget):
    """The keys that do something now; a narrow screen has those of them that fit."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"key", "key-label"}

    keys: reactive[Sequence[tuple[str, str]]] = reactive(())
    """Key and what it does, the most wanted first, and last the way out, which stays."""

    def render(self) -> RenderResult:
        """Draw for the width there is."""
        parts = [
            Content.styled(key, ".key") + Content.styled(f" {label}", ".key-label")
            for key, label in self.keys
        ]
        # The first is what one does most, the last is the way out.
        kept = [*parts[:1], *parts[1:][-1:]]
        for part in parts[1:-1]:
            if _width([*kept, part]) <= self.size.width:
                kept.insert(-1, part)
        if _width(kept) > self.size.width:
            del kept[1:]
        return Content(" " * _GAP).join(kept)


def _width(parts: Sequence[Content]) -> int:
    return sum(part.cell_length + _GAP for part in parts) - _GAP
