"""Measured figures for people, as a table that also reads as Markdown, and for programs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from edge.header import Header, read_model
from edge.markdown_table import markdown_table
from edge.quantity import decimal_text
from edge.text import one_line
from quantize.measuring.candidates import ALL
from quantize.measuring.divergence import Estimate, Figures
from quantize.measuring.speed import Speed
from quantize.words import say

__all__ = ["Compared", "as_data", "table"]

_NOTHING = "—"


@dataclass(frozen=True, slots=True)
class Compared:
    """One model and what was measured of it."""

    name: str
    header: Header
    figures: dict[str, Figures] | None
    """For each language and `ALL`; None: it is what the others are compared with."""
    speed: Speed | None
    """None: not measured."""

    @classmethod
    def of(
        cls, name: str, path: Path, figures: dict[str, Figures] | None, speed: Speed | None
    ) -> Compared:
        """With what the file at `path` says of itself."""
        return cls(name, read_model(path), figures, speed)

    @property
    def kld(self) -> Estimate | None:
        """Mean over all texts."""
        return self.figures[ALL].kld if self.figures else None


@dataclass(frozen=True, slots=True)
class _Column:
    heading: str
    cell: Callable[[Compared], str]
    level: int
    """0: always shown; 1, 2: where there is room, the latter in wider terminals only."""


def table(rows: Sequence[Compared], width: int | None = None) -> str:
    """One line for each model: size, divergence from the reference, speed, languages.

    Args:
        rows: what was measured.
        width: characters of a line at most, for which columns are left out; None: all of them.
    """
    for level in (2, 1, 0):
        lines = _table(rows, [column for column in _columns(rows) if column.level <= level])
        if width is None or max(map(len, lines)) <= width:
            break
    return "\n".join(lines)


def _table(rows: Sequence[Compared], columns: Sequence[_Column]) -> list[str]:
    headings = [say("compare.model"), *(column.heading for column in columns)]
    cells = [[one_line(row.name), *(column.cell(row) for column in columns)] for row in rows]
    return markdown_table(headings, cells).splitlines()


def _type(row: Compared) -> str:
    header = row.header
    return header.file_type if header.format == "GGUF" else f"{header.format} {header.file_type}"


def _columns(rows: Sequence[Compared]) -> list[_Column]:
    def column(entry: str, level: int, cell: Callable[[Compared], str]) -> _Column:
        return _Column(say(f"compare.{entry}"), cell, level)

    columns = [
        column("type", 0, _type),
        column("size", 0, lambda row: decimal_text(row.header.file_size / 1e6, 1)),
        column("bpw", 1, lambda row: decimal_text(row.header.bits_per_weight, 2)),
        column("kld", 0, _of(lambda found: _estimate(found.kld, 5))),
        column("kld-99", 1, _of(lambda found: decimal_text(found.kld_99, 4))),
        column("ppl-ratio", 1, _of(lambda found: _estimate(found.ppl_ratio, 4))),
        column("same-top", 0, _of(lambda found: _estimate(found.same_top, 2, scale=100))),
    ]
    if any(row.speed for row in rows):
        columns += [
            column("prefill", 1, _timed(lambda speed: _rate(speed.prefill, speed.prefill_spread))),
            column("decode", 0, _timed(lambda speed: _rate(speed.decode, speed.decode_spread))),
            column("memory", 1, _timed(lambda speed: decimal_text(speed.peak_rss / 1e6, 0))),
        ]
    for label in _labels(rows):
        cell = _of(lambda found: _estimate(found.kld, 5), label)
        columns.append(_Column(f"KLD {label}", cell, 2))
    return columns


def _of(cell: Callable[[Figures], str], label: str = ALL) -> Callable[[Compared], str]:
    return lambda row: cell(row.figures[label]) if row.figures else _NOTHING


def _timed(cell: Callable[[Speed], str]) -> Callable[[Compared], str]:
    return lambda row: cell(row.speed) if row.speed else _NOTHING


def _rate(rate: float, spread: float) -> str:
    return f"{decimal_text(rate, 1)} ± {decimal_text(spread, 1)}"


def as_data(rows: Sequence[Compared]) -> list[dict[str, Any]]:
    """The same, and all other figures, for `json.dumps`."""
    return [
        {
            "name": row.name,
            "type": row.header.file_type,
            "file_size": row.header.file_size,
            "bits_per_weight": row.header.bits_per_weight,
            "figures": {
                label: _finite(asdict(each)) for label, each in (row.figures or {}).items()
            },
            "speed": asdict(row.speed) if row.speed else None,
        }
        for row in rows
    ]


def _finite(value: Any) -> Any:
    """JSON has no infinity, and no NaN, which a damaged model gives."""
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    return None if isinstance(value, float) and not isfinite(value) else value


def _labels(rows: Sequence[Compared]) -> list[str]:
    """The languages, where there are several."""
    first = next(row.figures for row in rows if row.figures)
    labels = [label for label in first if label != ALL]
    return labels if len(labels) > 1 else []


def _estimate(estimate: Estimate, places: int, scale: float = 1) -> str:
    value, error = estimate.value * scale, estimate.error * scale
    return f"{decimal_text(value, places)} ± {decimal_text(error, places)}"
