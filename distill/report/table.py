"""A report as a table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from distill.planning.boards import boards
from distill.planning.tables import megabytes
from distill.report.entries import Accuracy, Entry, Rates, Report, Task
from distill.report.names import model_name
from distill.words import say
from edge.markdown_table import markdown_table
from edge.quantity import count_text, decimal_text
from edge.text import in_lines, one_line

__all__ = ["table"]

_NOTHING = "—"
_NO_BREAK = "\N{NO-BREAK SPACE}"
_HERE, _BOARD = ("note-size", "note-here"), ("note-size", "note-board")
_LEAST = 2
"""Columns without which a table tells nothing."""


@dataclass(frozen=True, slots=True)
class _Column:
    heading: str
    cell: Callable[[Entry], str]
    rank: int
    """Where there is no room, the column of the highest goes first."""
    notes: tuple[str, ...] = ()
    """Entries of `report.toml` that say what it means."""


def table(report: Report, width: int | None = None) -> str:
    """One line for each model, and what its columns mean.

    Args:
        report: what was measured.
        width: characters of a line at most, for which columns are left out; None: all of them.
    """
    columns = _columns(report)
    left_out: list[str] = []
    while True:
        rows = [[column.cell(entry) for column in columns] for entry in report.entries]
        made = markdown_table([column.heading for column in columns], rows)
        if width is None or len(columns) == _LEAST or max(map(len, made.splitlines())) <= width:
            break
        least = max(reversed(columns), key=lambda column: column.rank)
        columns.remove(least)
        left_out.insert(0, least.heading.replace(" ", _NO_BREAK))
    facts = {
        "quantization": report.quantization,
        "context": count_text(report.context),
        **report.here.model_dump(),
    }
    notes = [say(f"report.{note}", **facts) for column in columns for note in column.notes]
    if not report.teacher.bits_per_byte:
        notes.insert(0, say("report.no-held-out"))
    if left_out:
        notes.append(say("report.left-out", columns=" · ".join(left_out)))
    told = " ".join(dict.fromkeys(notes))
    return f"{made}\n\n{told if width is None else in_lines(told, width)}"


def _columns(report: Report) -> list[_Column]:
    columns = [
        _Column(say("report.model"), lambda e: model_name(e.step, e.role), 0),
        _Column(say("report.shape"), lambda entry: entry.shape, 8),
        _Column(say("report.parameters"), lambda e: decimal_text(e.parameters / 1e6, 1), 4),
        _Column(say("report.tokens"), _tokens, 7),
    ]
    for n, language in enumerate(report.teacher.bits_per_byte):
        heading = say("report.bits", language=one_line(language))
        columns.append(_Column(heading, _bits(report, language), 5 if n else 1, ("note-bits",)))
    for task in report.teacher.accuracy:
        heading = say(f"report.task-{task}")
        columns.append(_Column(heading, _accuracy(task), 6, ("note-task",)))
    columns += [
        _Column(say("report.size"), lambda entry: megabytes(entry.file_bytes), 2, ("note-size",)),
        _Column(say("report.here"), lambda entry: _rates(entry.here), 3, _HERE),
    ]
    for name, rates in report.teacher.boards.items():
        known = boards().get(name)
        heading = say("report.board", board=one_line(known.title if known else name))
        notes = (*_BOARD, "note-least") if _guessed(rates) else _BOARD
        columns.append(_Column(heading, _board(name), 9, notes))
    return columns


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


def _accuracy(task: Task) -> Callable[[Entry], str]:
    return lambda entry: _share(entry.accuracy.get(task))


def _share(accuracy: Accuracy | None) -> str:
    if accuracy is None:
        return _NOTHING
    return f"{decimal_text(100 * accuracy.value, 1)} ± {decimal_text(100 * accuracy.error, 1)}"


def _board(name: str) -> Callable[[Entry], str]:
    return lambda entry: _rates(entry.boards.get(name))


def _rates(rates: Rates | None) -> str:
    """`12.3 ± 0.4 / 90 ± 2`: decode and prefill, with their spread where they were measured;
    `12.3 / ~90`: no figure of that type stands behind it."""
    if rates is None:
        return _NOTHING
    decode = _rate(rates.decode, rates.decode_spread, 1)
    prefill = _rate(rates.prefill, rates.prefill_spread, 0)
    return f"{decode} / {'~' if _guessed(rates) else ''}{prefill}"


def _guessed(rates: Rates) -> bool:
    return rates.prefill is not None and not rates.prefill_measured


def _rate(rate: float | None, spread: float | None, digits: int) -> str:
    if rate is None:
        return _NOTHING
    told = decimal_text(rate, digits)
    return told if spread is None else f"{told} ± {decimal_text(spread, digits)}"
