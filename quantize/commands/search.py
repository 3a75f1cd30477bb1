"""`lucie quantize search`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge.commands.numbers import Real, Whole
from edge.commands.paths import AnyPath
from edge.quantity import decimal_text, size_text
from quantize.commands import options
from quantize.commands.export import report
from quantize.commands.words import say, stages, words
from quantize.errors import QuantizeUsageError

if TYPE_CHECKING:
    from quantize.search.mixture import Found

__all__ = ["search"]


@click.command("search", **words("search"))
@click.argument("source", type=AnyPath())
@click.argument("out", type=AnyPath())
@click.option("--budget-mb", type=Real(min=0, min_open=True), metavar="MB", help=say("budget-mb"))
@click.option("--bpw", type=Real(min=0, min_open=True), metavar="BITS", help=say("bpw"))
@click.option("--like", metavar="TYPE", help=say("like"))
@click.option("--imatrix", type=AnyPath(), help=say("imatrix"))
@click.option("--types", metavar="TYPE,…", help=say("search-types"))
@click.option("--chunks", type=Whole(1, 96), default=6, show_default=True, metavar="N",
              help=say("search-chunks"))  # fmt: skip
@click.option("--calibration", multiple=True, metavar="[LANG=]TEXT", help=say("calibration-text"))
@options.texts
@click.option("--max-kld", type=Real(min=0, min_open=True), metavar="NATS", help=say("max-kld"))
@options.threads
def search(
    source: Path,
    out: Path,
    budget_mb: float | None,
    bpw: float | None,
    like: str | None,
    imatrix: Path | None,
    types: str | None,
    chunks: int,
    calibration: tuple[str, ...],
    texts: tuple[str, ...],
    max_kld: float | None,
    threads: int,
) -> None:
    """Find the best mixture of types within a budget."""
    from quantize.ggml.imatrix import ImportanceMatrix
    from quantize.measuring.built_in_texts import CALIBRATION, MEASURE
    from quantize.search.mixture import Budget
    from quantize.search.mixture import search as find
    from quantize.search.sensitivity import Settings

    budget = Budget(
        None if budget_mb is None else max(1, int(budget_mb * 1e6)),
        bpw,
        like.upper() if like else None,
    )
    settings = Settings(
        options.calibration_or(calibration, CALIBRATION),
        _types(types),
        ImportanceMatrix.read(imatrix) if imatrix else None,
        chunks,
        threads,
    )
    with stages("search-interrupted") as stage:
        found = find(
            source, out, budget, settings, stage,
            most_kld=max_kld, measured_on=options.texts_or(texts, MEASURE),
        )  # fmt: skip
    _report(found)


def _types(given: str | None) -> tuple[str, ...]:
    from quantize.ggml.blocks import KNOWN
    from quantize.search.mixture import TYPES

    if given is None:
        return TYPES
    chosen = tuple(each.strip().upper() for each in given.split(","))
    for kind in chosen:
        if kind not in KNOWN:
            raise QuantizeUsageError("quantize.unknown-type", type=kind, known=", ".join(KNOWN))
    return chosen


def _report(found: Found) -> None:
    types = ", ".join(f"{kind} × {count}" for kind, count in found.types)
    report(found.bundle)
    click.echo(say("chosen", types=types, kld=decimal_text(found.predicted, 4)), err=True)
    if found.grid is not None:
        click.echo(say("on-grid", type=found.grid), err=True)
    if found.stock is not None:
        kld = found.stock.predictions.figures["all"].kld
        ours = found.bundle.manifest.metrics["kld, all"]
        click.echo(
            say(
                "stock",
                type=found.stock.type,
                size=size_text(found.stock.file_size),
                kld=decimal_text(kld.value, 4),
                error=decimal_text(kld.error, 4),
                ratio=decimal_text(ours / kld.value, 2) if kld.value > 0 else "—",
            ),
            err=True,
        )
