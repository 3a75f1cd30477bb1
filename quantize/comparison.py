"""Measured figures for people, as a table that also reads as Markdown, and for programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from io import StringIO
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from edge.gguf_header import read_header
from edge.messages import language, text
from quantize.divergence import Estimate, Figures
from quantize.measure import ALL

__all__ = ["as_data", "table"]

_FOLDER = Path(__file__).parent / "locale"
_WIDE = 400

Found = Sequence[dict[str, Figures]]


def _say(entry: str) -> str:
    return text(f"compare.{entry}", folder=_FOLDER)


def table(names: Sequence[str], paths: Sequence[Path], found: Found) -> str:
    """One line for each candidate: size, divergence from the reference, and that by language."""
    labels = [label for label in found[0] if label != ALL]
    made = Table(box=box.MARKDOWN)
    made.add_column(_say("model"), no_wrap=True)
    for heading in ("type", "size", "bpw", "kld", "kld-99", "ppl-ratio", "same-top"):
        made.add_column(_say(heading), justify="right", no_wrap=True)
    if len(labels) > 1:
        for label in labels:
            made.add_column(f"KLD {label}", justify="right", no_wrap=True)
    for name, path, figures in zip(names, paths, found, strict=True):
        header, over_all = read_header(path), figures[ALL]
        row = [
            name,
            header.file_type,
            f"{header.file_size / 1e6:.1f}",
            f"{header.bits_per_weight:.2f}",
            _estimate(over_all.kld, 5),
            f"{over_all.kld_99:.4f}",
            _estimate(over_all.ppl_ratio, 4),
            _estimate(over_all.same_top, 2, scale=100),
        ]
        if len(labels) > 1:
            row += [_estimate(figures[label].kld, 5) for label in labels]
        made.add_row(*map(_number, row[:1]), *map(_localized, row[1:]))
    out = StringIO()
    Console(file=out, width=_WIDE).print(made)
    lines = (line.rstrip() for line in out.getvalue().splitlines())
    return "\n".join(line for line in lines if line)  # without the box's empty edges


def as_data(names: Sequence[str], paths: Sequence[Path], found: Found) -> list[dict[str, Any]]:
    """The same, and all other figures, for `json.dumps`."""
    rows = []
    for name, path, figures in zip(names, paths, found, strict=True):
        header = read_header(path)
        rows.append(
            {
                "name": name,
                "type": header.file_type,
                "file_size": header.file_size,
                "bits_per_weight": header.bits_per_weight,
                "figures": {label: asdict(each) for label, each in figures.items()},
            }
        )
    return rows


def _estimate(estimate: Estimate, places: int, scale: float = 1) -> str:
    return f"{estimate.value * scale:.{places}f} ± {estimate.error * scale:.{places}f}"


def _number(name: str) -> str:
    return name.replace("[", "\\[")  # rich's markup


def _localized(number: str) -> str:
    return number.replace(".", ",") if language() == "fr" else number
