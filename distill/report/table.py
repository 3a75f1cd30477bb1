"""A report as a table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from distill.planning.boards import boards
from distill.planning.tables import megabytes
from distill.report.entries import Accuracy, Entry, Rates, Report
from distill.words import say
from edge.markdown_table import markdown_table
from edge.quantity import count_text, decimal_text
from edge.text import one_line

__all__ = ["table"]

_NOTHING = "—"


@dataclass(frozen=True, slots=True)
class _Column:
    heading: str
    cell: Callable[[Entry], str]
    level: int
    """0: always shown; 1, 2: where there is room, the latter in wider terminals only."""


def table(report: Report, width: int | None = None) -> str:
    """One line for each model, and what its columns mean.

    Args:
        report: what was measured.
        width: characters of a line at most, for which columns are left out; None: all of them.
    """
    made = ""
    for level in (2, 1, 0):
        columns = [column for column in _columns(report) if column.level <= level]
        rows = [[column.cell(entry) for column in columns] for entry in report.entries]
        made = markdown_table([column.heading for column in columns], rows)
        if width is None or max(map(len, made.splitlines())) <= width:
            break
    notes = say(
        "report.notes", quantization=report.quantization, context=count_text(report.context)
    )
    return f"{made}\n\n{notes}"


def _columns(report: Report) -> list[_Column]:
    columns = [
        _Column(say("report.model"), _name, 0),
        _Column(say("report.shape"), lambda entry: entry.shape, 2),
        _Column(say("report.parameters"), lambda e: decimal_text(e.parameters / 1e6, 1), 0),
        _Column(say("report.tokens"), _tokens, 1),
    ]
    for language in report.teacher.bits_per_byte:
        heading = say("report.bits", language=one_line(language))
        columns.append(_Column(heading, _bits(report, language), 0))
    for task in report.teacher.accuracy:
        heading = say(f"report.task-{task}")
        columns.append(_Column(heading, _accuracy(task), 1))
    columns += [
        _Column(say("report.size"), lambda entry: megabytes(entry.file_bytes), 0),
        _Column(say("report.here"), lambda entry: _rates(entry.here), 0),
    ]
    for name in report.teacher.boards:
        known = boards().get(name)
        heading = say("report.board", board=one_line(known.title if known else name))
        columns.append(_Column(heading, _board(name), 2))
    return columns


def _name(entry: Entry) -> str:
    role = say(f"report.role-{entry.role}")
    return role if entry.step == 0 else f"{entry.step} {role}"


def _tokens(entry: Entry) -> str:
    return decimal_text(entry.tokens / 1e6, 2) if entry.tokens else _NOTHING


def _bits(report: Report, language: str) -> Callable[[Entry], str]:
    """Bits per byte, and how much more than the teacher's."""
    least = report.teacher.bits_per_byte[language]

    def cell(entry: Entry) -> str:
        bits = entry.bits_per_byte.get(language)
        if bits is None:
            return _NOTHING
        told = decimal_text(bits, 3)
        if entry.step == 0 or not least:
            return told
        more = 100 * (bits / least - 1)
        return f"{told} ({'+' if more >= 0 else '−'}{decimal_text(abs(more), 1)} %)"

    return cell


def _accuracy(task: str) -> Callable[[Entry], str]:
    return lambda entry: _share(entry.accuracy.get(task))


def _share(accuracy: Accuracy | None) -> str:
    if accuracy is None:
        return _NOTHING
    return f"{decimal_text(100 * accuracy.value, 1)} ± {decimal_text(100 * accuracy.error, 1)}"


def _board(name: str) -> Callable[[Entry], str]:
    return lambda entry: _rates(entry.boards.get(name))


def _rates(rates: Rates | None) -> str:
    """`12.3 / 90`: decode and prefill."""
    if rates is None:
        return _NOTHING
    prefill = _NOTHING if rates.prefill is None else decimal_text(rates.prefill, 0)
    return f"{decimal_text(rates.decode, 1)} / {prefill}"
