"""Quality against size and against speed: what a person looks at to choose a file.

The line joins those that no other beats, the Pareto front.
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING

from edge.text import one_line
from quantize.errors import QuantizeError, QuantizeUsageError
from quantize.report.drawing import FORMATS, INK, LINE, drawing
from quantize.report.pareto import front
from quantize.report.table import Compared
from quantize.words import say

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["FORMATS", "draw", "draw_in_terminal"]

_LETTERS = string.ascii_uppercase + string.ascii_lowercase + string.digits


_MOST = len(_LETTERS)
"""More models than that would be no picture."""


@dataclass(frozen=True, slots=True)
class _Panel:
    """One diagram: a figure of each model against its divergence."""

    title: str
    names: list[str]
    x: list[float]
    kld: list[float]
    error: list[float]
    more_is_better: bool

    @property
    def front(self) -> list[int]:
        sign = -1 if self.more_is_better else 1
        points = list(zip([sign * x for x in self.x], self.kld, strict=True))
        return front(points)


def draw(rows: Sequence[Compared], path: Path) -> None:
    """Draw to a file whose ending is one of `FORMATS`, all or nothing.

    Raises:
        QuantizeUsageError: another ending.
        QuantizeError: it cannot be written.
    """
    if path.suffix.lower() not in FORMATS:
        raise QuantizeUsageError("compare.format", path=str(path), known=", ".join(FORMATS))
    panels = _panels(rows)
    try:
        with drawing(path, 4.8 * len(panels), 3.8) as figure:
            for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels,
                                   strict=True):  # fmt: skip
                _fill(axes, panel)
    except OSError as error:
        raise QuantizeError(
            "compare.unwritable", path=str(path), reason=error.strerror or str(error)
        ) from error


def _fill(axes: Axes, panel: _Panel) -> None:
    from adjustText import adjust_text

    axes.set_yscale("log")
    axes.set_xlabel(panel.title)
    axes.set_ylabel(say("compare.kld-axis"))
    axes.grid(visible=True, which="major", alpha=0.25)
    best = panel.front
    axes.plot([panel.x[n] for n in best], [panel.kld[n] for n in best], color=LINE, lw=1,
              zorder=1, label=say("compare.front"))  # fmt: skip
    axes.errorbar(panel.x, panel.kld, yerr=panel.error, fmt="o", color=INK, ms=4, capsize=2)
    axes.margins(x=0.14, y=0.12)
    legend = axes.legend(frameon=False)
    names = [
        axes.text(x, y, name, fontsize=8, parse_math=False)
        for name, x, y in zip(panel.names, panel.x, panel.kld, strict=True)
    ]
    adjust_text(names, ax=axes, objects=[legend], expand=(1.2, 1.7), max_move=None, iter_lim=500,
                arrowprops={"arrowstyle": "-", "lw": 0.5})  # fmt: skip


def draw_in_terminal(rows: Sequence[Compared], width: int, height: int = 14) -> str:
    """The same in characters, without colours: letters stand for the models, as below it."""
    import plotext

    drawn = []
    for panel in _panels(rows):
        plotext.clear_figure()
        plotext.theme("clear")
        plotext.plotsize(min(width, 100), height)
        plotext.yscale("log")
        best = panel.front
        plotext.plot([panel.x[n] for n in best], [panel.kld[n] for n in best], marker="braille")
        for letter, x, y in zip(_LETTERS, panel.x, panel.kld, strict=False):
            plotext.scatter([x], [y], marker=letter)
        plotext.xlabel(panel.title)
        plotext.title(say("compare.kld-axis"))
        drawn.append(plotext.uncolorize(plotext.build()))
    named = zip(_LETTERS, _panels(rows)[0].names, strict=False)
    return "\n".join([*drawn, "  ".join(f"{letter} {name}" for letter, name in named)])


def _panels(rows: Sequence[Compared]) -> list[_Panel]:
    shown = [row for row in rows if row.kld is not None and 0 < row.kld.value < inf][:_MOST]
    if not shown:
        raise QuantizeError("compare.nothing-to-draw")
    panels = [_panel("size-axis", shown, [row.header.file_size / 1e6 for row in shown])]
    if all(row.speed for row in shown):
        speeds = [row.speed.decode for row in shown if row.speed]
        panels.append(_panel("decode-axis", shown, speeds, more_is_better=True))
    return panels


def _short(paths: list[str]) -> list[str]:
    """Without their folders, where that tells them apart."""
    names = [Path(path).name for path in paths]
    return names if len(set(names)) == len(names) else paths


def _panel(
    title: str, rows: Sequence[Compared], x: list[float], *, more_is_better: bool = False
) -> _Panel:
    estimates = [row.kld for row in rows if row.kld]
    return _Panel(
        say(f"compare.{title}"),
        _short([one_line(row.name) for row in rows]),
        x,
        [each.value for each in estimates],
        [each.error for each in estimates],
        more_is_better,
    )
