"""Students by speed and size on the board that was asked for: one line each, a point a type."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING

from distill.errors import DistillError, DistillUsageError
from distill.planning.plan import Plan
from distill.planning.speed import predict
from distill.planning.storage import QUANTIZATIONS, file_bytes
from distill.planning.tables import shape_text
from distill.planning.target import OnBoard
from distill.words import say
from edge.quantity import count_text, decimal_text
from edge.text import in_lines, one_line
from quantize.report.drawing import FORMATS, LINE, drawing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["FORMATS", "check", "draw", "draw_in_terminal"]

_MARKS = "os^Dv"


@dataclass(frozen=True, slots=True)
class _Line:
    """One student."""

    letter: str
    shape: str
    size_mb: list[float]
    speed: list[float]
    """Tokens per second, for each of `QUANTIZATIONS`."""


def check(path: Path) -> None:
    """Refuse a place that cannot be drawn to, before anything is computed.

    Raises:
        DistillUsageError: its ending is none of `FORMATS`, or its folder is not there.
    """
    if path.suffix.lower() not in FORMATS:
        raise DistillUsageError("plan.format", path=str(path), known=", ".join(FORMATS))
    if path.is_dir() or not path.parent.is_dir():
        raise DistillUsageError("plan.no-folder", path=str(path))


def draw(plan: Plan, path: Path) -> None:
    """Draw to a file whose ending is one of `FORMATS`, all or nothing.

    Raises:
        DistillUsageError: another ending, or no such folder.
        DistillError: it cannot be written.
    """
    check(path)
    try:
        with drawing(path, 6.4, 4.2) as figure:
            _fill(figure.subplots(), plan)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise DistillError("plan.unwritable", path=str(path), reason=reason) from error


def _fill(axes: Axes, plan: Plan) -> None:
    from matplotlib.ticker import MaxNLocator

    at = QUANTIZATIONS.index(plan.quantization)
    # Lines of one size lie upon each other, and so would letters: each has its own marks.
    for line, mark in zip(_lines(plan), cycle(_MARKS)):
        (drawn,) = axes.plot(line.size_mb, line.speed, f"{mark}-", ms=4, lw=1,
                             label=f"{line.letter}  {line.shape}")  # fmt: skip
        axes.plot(line.size_mb[at], line.speed[at], mark, ms=9, mfc="none",
                  color=drawn.get_color())  # fmt: skip
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(steps=[1, 2, 5, 10]))
        axis.set_major_formatter(_number)
    if isinstance(plan.target, OnBoard):
        axes.axhline(plan.target.tokens_per_s, color=LINE, lw=1, ls="--")
    axes.set_ylim(bottom=0)
    axes.set_xlabel(say("plan.size-axis"))
    axes.set_ylabel(say("plan.speed-axis"))
    axes.set_title(_title(plan), parse_math=False, fontsize=9)
    axes.grid(visible=True, which="major", alpha=0.25)
    axes.legend(frameon=False, title=say("plan.marked", type=plan.quantization))


def _number(value: float, _: object) -> str:
    return decimal_text(value, len(f"{value:g}".partition(".")[2]))


def draw_in_terminal(plan: Plan, width: int, height: int = 16) -> str:
    """The same in characters, without colours: letters stand for the students."""
    import plotext

    plotext.clear_figure()
    plotext.theme("clear")
    across = min(width, 100)
    plotext.plotsize(across, height)
    lines = _lines(plan)
    for line in lines:
        plotext.scatter(line.size_mb, line.speed, marker=line.letter)
    plotext.xlabel(say("plan.size-axis"))
    sizes = [size for line in lines for size in line.size_mb]
    speeds = [speed for line in lines for speed in line.speed]
    plotext.xticks(*_ticks(sizes, max(2, min(5, across // 14)), 0))
    plotext.yticks(*_ticks(speeds, 5, 0 if max(speeds) >= 100 else 1))
    drawn = plotext.uncolorize(plotext.build())
    # Its own titles are left out where they are too wide.
    title = in_lines(_title(plan), across)
    return "\n".join([title, drawn, *(f"{line.letter}  {line.shape}" for line in lines)])


def _ticks(values: list[float], count: int, places: int) -> tuple[list[float], list[str]]:
    """So many marks from the least to the largest, and what is written at each."""
    least, most = min(values), max(values)
    at = [least + (most - least) * n / (count - 1) for n in range(count)]
    return at, [decimal_text(each, places) for each in at]


def _title(plan: Plan) -> str:
    context = count_text(plan.context)
    return say("plan.picture", board=one_line(plan.board.title), context=context)


def _lines(plan: Plan) -> list[_Line]:
    return [
        _Line(
            one.letter,
            shape_text(one.config),
            [file_bytes(one.config, kind) / 1e6 for kind in QUANTIZATIONS],
            [predict(one.config, kind, plan.board, plan.context).decode for kind in QUANTIZATIONS],
        )
        for one in plan.students
    ]
