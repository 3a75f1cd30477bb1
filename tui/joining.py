"""How a class joins: two codes that phones read off the screen, and the same in words.

The first is for the board's network, in the format that ZXing has set:
https://github.com/zxing/zxing/wiki/Barcode-Contents#wi-fi-network-config-android-ios-11
The second is the address of the page.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from rich.cells import cell_len, chop_cells
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.screen import Screen
from textual.widgets import Static

from tui.sizes import fit
from tui.status import KeyLine
from tui.untrusted import visible
from tui.words import say

if TYPE_CHECKING:
    from textual.app import ComposeResult
    from textual.events import Resize
    from textual.geometry import Size

    from tui.network import Network

__all__ = ["Code", "Joining"]

_QUIET = (4, 2)
"""Light modules around a code: as the standard has it, else as phones still read it."""
_GAP = 2
_MARGIN = 4
"""Columns left and right of everything, together."""


@dataclass(frozen=True, slots=True)
class Code:
    """A QR code as lines of half blocks; its light modules are what is drawn."""

    lines: tuple[str, ...]

    @property
    def width(self) -> int:
        """In columns."""
        return len(self.lines[0])

    @classmethod
    def of(cls, content: str, quiet: int) -> Code:
        """Draw it.

        Raises:
            ImportError: there is no `segno` here.
        """
        import segno

        # Phones read no micro codes, and take what is not ASCII for UTF-8.
        code = segno.make(content, encoding="utf-8", micro=False)
        rows = [[not dark for dark in row] for row in code.matrix_iter(border=quiet)]
        if len(rows) % 2:
            rows.append([True] * len(rows))
        return cls(tuple(_drawn(*pair) for pair in zip(rows[::2], rows[1::2], strict=True)))


def _drawn(upper: Sequence[bool], lower: Sequence[bool]) -> str:
    blocks = {(True, True): "█", (True, False): "▀", (False, True): "▄", (False, False): " "}
    return "".join(blocks[pair] for pair in zip(upper, lower, strict=True))


class Joining(Screen[None]):
    """Both codes side by side where there is room, else one at a time, else words alone.

    Args:
        network: to be joined.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,f3,q", "dismiss", show=False),
        Binding("left,right", "other", show=False),
    ]

    def __init__(self, network: Network) -> None:
        super().__init__()
        self._steps = (
            (say("joining.join"), network.wifi),
            (say("joining.open"), network.address),
        )
        self._facts = [
            say("joining.network", ssid=visible(network.ssid)),
            say("joining.password", password=visible(network.password)),
            say("joining.address", address=visible(network.address)),
        ]
        self._shown = 0
        self._keys = KeyLine()

    def compose(self) -> ComposeResult:
        """The codes come when the size is known."""
        yield Static(say("joining.title"), id="title", markup=False)
        yield VerticalScroll(id="joining")
        yield self._keys

    async def on_resize(self, event: Resize) -> None:
        """Draw what there is room for."""
        fit(self, event.size)
        await self._draw(event.size)

    async def action_other(self) -> None:
        """The other code, where they are shown one at a time."""
        self._shown = 1 - self._shown
        await self._draw(self.size)

    async def _draw(self, size: Size) -> None:
        facts = _side_by_side(self._facts, size.width - _MARGIN)
        area = self.query_one("#joining", VerticalScroll)
        keys = [(say("status.key-esc"), say("status.back"))]
        async with self.batch():
            await area.remove_children()
            try:
                codes = self._codes(size, len(facts))
            except ImportError:
                codes, facts = [], [say("joining.no-library"), *self._facts]
            else:
                facts = facts if codes else [say("joining.too-small"), *self._facts]
            if len(codes) == 1:
                keys.append(("→", say("joining.other")))
            await area.mount_all(self._widgets(codes, facts))
        self._keys.keys = keys

    def _widgets(
        self, codes: Sequence[tuple[str, Code]], facts: Sequence[str]
    ) -> Iterator[Horizontal | Static]:
        if codes:
            yield Horizontal(
                *(
                    Vertical(
                        Static(caption, classes="caption", markup=False),
                        Static("\n".join(code.lines), classes="code", markup=False),
                        classes="step",
                    )
                    for caption, code in codes
                ),
                id="codes",
            )
        for line in facts:
            yield Static(line, classes="joining-fact", markup=False)

    def _codes(self, size: Size, facts: int) -> list[tuple[str, Code]]:
        """Those that are shown, with what is said of them; none where there is no room."""
        height = size.height - facts - 3  # title, caption, keys
        for chosen in (self._steps, (self._steps[self._shown],)):
            for quiet in _QUIET:
                codes = [(caption, Code.of(content, quiet)) for caption, content in chosen]
                width = sum(max(cell_len(says), code.width) + _GAP for says, code in codes) - _GAP
                tallest = max(len(code.lines) for _, code in codes)
                if width <= size.width - _MARGIN and tallest <= height:
                    return codes
        return []


def _side_by_side(facts: Sequence[str], width: int) -> list[str]:
    """Facts in as few lines as they fit in; one that does not fit is broken.

    Args:
        width: in cells; a letter that is wider has a line of its own.
    """
    lines: list[str] = []
    for fact in facts:
        if lines and cell_len(f"{lines[-1]}   {fact}") <= width:
            lines[-1] += f"   {fact}"
        else:
            lines.append(fact)
    return [part for line in lines for part in chop_cells(line, max(1, width))]
