"""Measured figures for people, as a table that also reads as Markdown, and for programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from edge.gguf_header import GGUFHeader, read_header
from edge.messages import text
from edge.quantity import decimal_text
from quantize.divergence import Estimate, Figures
from quantize.measure import ALL
from quantize.speed import Speed

__all__ = ["Compared", "as_data", "table"]

_FOLDER = Path(__file__).parent / "locale"
_WIDE = 400
_NOTHING = "—"


@dataclass(frozen=True, slots=True)
class Compared:
    """One model and what was measured of it."""

    name: str
    header: GGUFHeader
    figures: dict[str, Figures] | None
    """For each language and `ALL`; None: it is what the others are compared with."""
    speed: Speed | None
    """None: not measured."""

    @classmethod
    def of(
        cls, name: str, path: Path, figures: dict[str, Figures] | None, speed: Speed | None
    ) -> Compared:
        """With what the file at `path` says of itself."""
        return cls(name, read_header(path), figures, speed)

    @property
    def kld(self) -> Estimate | None:
        """Mean over all texts."""
        return self.figures[ALL].kld if self.figures else None


def table(rows: Sequence[Compared]) -> str:
    """One line for each model: size, divergence from the reference, and that by language."""
    labels = _labels(rows)
    timed = any(row.speed for row in rows)
    made = Table(box=box.MARKDOWN)
    made.add_column(_say("model"), no_wrap=True)
    headings = ["type", "size", "bpw", "kld", "kld-99", "ppl-ratio", "same-top"]
    for heading in headings + (["prefill", "decode", "memory"] if timed else []):
        made.add_column(_say(heading), justify="right", no_wrap=True)
    for label in labels:
        made.add_column(f"KLD {label}", justify="right", no_wrap=True)
    for row in rows:
        made.add_row(
            escape(row.name),
            row.header.file_type,
            decimal_text(row.header.file_size / 1e6, 1),
            decimal_text(row.header.bits_per_weight, 2),
            *_divergence(row.figures),
            *(_speed(row.speed) if timed else []),
            *(_estimate(row.figures[label].kld, 5) if row.figures else _NOTHING
              for label in labels),
        )  # fmt: skip
    out = StringIO()
    Console(file=out, width=_WIDE).print(made)
    lines = (line.rstrip() for line in out.getvalue().splitlines())
    return "\n".join(line for line in lines if line)  # without the box's empty edges


def as_data(rows: Sequence[Compared]) -> list[dict[str, Any]]:
    """The same, and all other figures, for `json.dumps`."""
    return [
        {
            "name": row.name,
            "type": row.header.file_type,
            "file_size": row.header.file_size,
            "bits_per_weight": row.header.bits_per_weight,
            "figures": {label: asdict(each) for label, each in (row.figures or {}).items()},
            "speed": asdict(row.speed) if row.speed else None,
        }
        for row in rows
    ]


def _labels(rows: Sequence[Compared]) -> list[str]:
    """The languages, where there are several."""
    first = next(row.figures for row in rows if row.figures)
    labels = [label for label in first if label != ALL]
    return labels if len(labels) > 1 else []


def _divergence(figures: dict[str, Figures] | None) -> list[str]:
    if figures is None:
        return [_NOTHING] * 4
    over_all = figures[ALL]
    return [
        _estimate(over_all.kld, 5),
        decimal_text(over_all.kld_99, 4),
        _estimate(over_all.ppl_ratio, 4),
        _estimate(over_all.same_top, 2, scale=100),
    ]


def _speed(speed: Speed | None) -> list[str]:
    if speed is None:
        return [_NOTHING] * 3
    return [
        decimal_text(speed.prefill, 1),
        decimal_text(speed.decode, 1),
        decimal_text(speed.peak_rss / 1e6, 0),
    ]


def _estimate(estimate: Estimate, places: int, scale: float = 1) -> str:
    value, error = estimate.value * scale, estimate.error * scale
    return f"{decimal_text(value, places)} ± {decimal_text(error, places)}"


def _say(entry: str) -> str:
    return text(f"compare.{entry}", folder=_FOLDER)
