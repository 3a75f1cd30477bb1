"""A report as a picture: how trainings recover, and what is left against speed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from distill.baselines import BASELINES
from distill.errors import DistillError
from distill.report.entries import Curve, Report, Role, Trained
from distill.report.names import model_name
from distill.words import say
from edge.quantity import decimal_text
from edge.text import in_lines, one_line
from quantize.report.drawing import INK, LINE, PALE, drawing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw", "draw_in_terminal"]

_COLOURS: dict[Role, str] = {
    "teacher": "#444444",
    "pruned": PALE,
    "distilled": INK,
    "cross-entropy": LINE,
    "scratch": "#8a8a3c",
}
_LETTERS: dict[Trained, str] = {"distilled": "D", "cross-entropy": "C", "scratch": "S"}


def draw(report: Report, path: Path) -> None:
    """Draw to a file whose ending is one of `quantize.report.drawing.FORMATS`.

    A panel for each cut: bits per byte of the first language over tokens of training, and the
    teacher's as a line. The last panel: bits per byte against decode as measured, of the models on
    the way; with what they are compared is as large and as fast as they.

    Raises:
        DistillError: it cannot be written.
    """
    steps = sorted({curve.step for curve in report.curves})
    try:
        with drawing(path, 4.6 * (len(steps) + 1), 3.8) as figure:
            panels = figure.subplots(1, len(steps) + 1, squeeze=False)[0]
            for axes, step in zip(panels, steps, strict=False):
                _recovery(axes, report, step)
            _against_speed(panels[-1], report)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise DistillError("report.unwritable", path=str(path), reason=reason) from error


def draw_in_terminal(report: Report, width: int, height: int = 16) -> str:
    """How the trainings after the last cut recover, in characters, without colours."""
    import plotext

    step = max(curve.step for curve in report.curves)
    plotext.clear_figure()
    plotext.theme("clear")
    plotext.plotsize(min(width, 100), height)
    named = []
    for curve in report.curves:
        if curve.step == step:
            x, y = _points(report, curve)
            plotext.scatter(x, y, marker=_LETTERS[curve.role])
            named.append(f"{_LETTERS[curve.role]} {say(f'report.role-{curve.role}')}")
    least = report.teacher.bits_per_byte[_language(report)]
    plotext.hline(least)
    plotext.xlabel(say("report.tokens-axis"))
    plotext.title(_title(report, step))
    drawn = plotext.uncolorize(plotext.build())
    teacher = f"── {say('report.role-teacher')} {decimal_text(least, 3)}"
    return "\n".join([drawn, in_lines("  ".join([*named, teacher]), width)])


def _recovery(axes: Axes, report: Report, step: int) -> None:
    for curve in report.curves:
        if curve.step == step:
            x, y = _points(report, curve)
            label = say(f"report.role-{curve.role}")
            axes.plot(x, y, "o-", ms=3, lw=1.2, color=_COLOURS[curve.role], label=label)
    axes.axhline(
        report.teacher.bits_per_byte[_language(report)],
        color=_COLOURS["teacher"], lw=1, ls="--", label=say("report.role-teacher"),
    )  # fmt: skip
    axes.set_xlabel(say("report.tokens-axis"))
    axes.set_ylabel(say("report.bits-axis"))
    axes.set_title(_title(report, step), fontsize=9, parse_math=False)
    axes.grid(visible=True, which="major", alpha=0.25)
    axes.legend(frameon=False)


def _against_speed(axes: Axes, report: Report) -> None:
    language = _language(report)
    for entry in report.entries:
        if entry.here is not None and entry.role not in BASELINES:
            x, y = entry.here.decode, entry.bits_per_byte[language]
            axes.plot([x], [y], "o", ms=5, color=_COLOURS[entry.role])
            name = model_name(entry.step, entry.role)
            axes.annotate(name, (x, y), xytext=(4, 4), textcoords="offset points",
                          fontsize=8, parse_math=False)  # fmt: skip
    facts = {"quantization": report.quantization, "machine": report.here.machine}
    axes.set_xlabel(say("report.decode-axis", **facts), parse_math=False)
    axes.set_ylabel(say("report.bits-axis"))
    axes.grid(visible=True, which="major", alpha=0.25)
    axes.margins(x=0.3, y=0.12)


def _points(report: Report, curve: Curve) -> tuple[list[float], list[float]]:
    """Millions of tokens, and bits per byte; what began as the pruned model begins there."""
    language = _language(report)
    x = [point.tokens / 1e6 for point in curve.points]
    y = [point.bits_per_byte[language] for point in curve.points]
    if curve.role != "scratch":
        pruned = next(e for e in report.entries if e.step == curve.step and e.role == "pruned")
        x, y = [0.0, *x], [pruned.bits_per_byte[language], *y]
    return x, y


def _language(report: Report) -> str:
    return next(iter(report.teacher.bits_per_byte))


def _title(report: Report, step: int) -> str:
    pruned = next(e for e in report.entries if e.step == step)
    return say("report.picture", language=one_line(_language(report)), shape=one_line(pruned.shape))
