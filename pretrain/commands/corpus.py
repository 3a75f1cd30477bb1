"""`lucie pretrain corpus`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge.commands.numbers import Real
from edge.commands.paths import AnyPath
from edge.quantity import count_text, decimal_text
from pretrain.commands.words import say, stages, words
from pretrain.corpus.settings import LANGUAGES, LIMIT_MB, Settings
from pretrain.split import HELD_OUT
from pretrain.words import say as stage_say

if TYPE_CHECKING:
    from pretrain.corpus.build import Taken

__all__ = ["corpus"]


def _share(ctx: click.Context, param: click.Parameter, value: str) -> float:
    """A part of a whole: `1%` or `0.01`."""
    text = value.replace(",", ".").strip()
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 0.5:  # what is no number is in no range either
        raise click.BadParameter(say("corpus-share", value=value), ctx, param)
    return share


def _names(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[str, ...]:
    """Names with commas between them; none, where nothing is given."""
    if value is None:
        return ()
    names = [name.strip() for name in value.split(",")]
    if not all(names):
        raise click.BadParameter(say("corpus-names", value=value), ctx, param)
    return tuple(dict.fromkeys(names))


def _print_list(ctx: click.Context, _: click.Parameter, asked: bool) -> None:
    if asked and not ctx.resilient_parsing:
        click.echo(_table())
        ctx.exit()


@click.command("corpus", **words("corpus"))
@click.argument("out", type=AnyPath())
@click.option("--languages", callback=_names, default=",".join(LANGUAGES), show_default=True,
              metavar="LANG,…", help=say("corpus-languages"))  # fmt: skip
@click.option("--sources", callback=_names, metavar="NAME,…",
              help=say("corpus-sources"))  # fmt: skip
@click.option("--limit-mb", type=Real(min=0), default=LIMIT_MB, show_default=True, metavar="MB",
              help=say("corpus-limit"))  # fmt: skip
@click.option("--heldout", callback=_share, default=f"{HELD_OUT:.0%}", show_default=True,
              metavar="SHARE", help=say("corpus-heldout"))  # fmt: skip
@click.option("--list", is_flag=True, is_eager=True, expose_value=False, callback=_print_list,
              help=say("corpus-list"))  # fmt: skip
def corpus(
    out: Path,
    languages: tuple[str, ...],
    sources: tuple[str, ...],
    limit_mb: float,
    heldout: float,
) -> None:
    """Build a corpus of real text."""
    from pretrain.corpus.build import build

    settings = Settings(
        languages=languages,
        sources=sources,
        limit_mb=limit_mb or None,
        heldout=heldout,
    )
    with stages("corpus-interrupted") as stage:
        bundle, taken = build(out, settings, stage, _note)
    for line in _rows(taken):
        click.echo(line, err=True)
    figures = bundle.manifest.metrics
    click.echo(
        say(
            "corpus-built",
            path=str(out),
            mb=decimal_text(figures["MB"], 1),
            documents=count_text(int(figures["documents"])),
            heldout=count_text(int(figures["documents held out"])),
        ),
        err=True,
    )


def _note(code: str, facts: Mapping[str, object]) -> None:
    line = "\r\x1b[K" if sys.stderr.isatty() else ""
    click.echo(line + stage_say(code, **facts), err=True)


def _rows(taken: list[Taken]) -> list[str]:
    """What there is of each source and language."""
    return [
        say(
            "corpus-row",
            label=t.bucket.label,
            mb=decimal_text(t.size / 1e6, 2),
            documents=count_text(t.train + t.heldout),
        )
        for t in taken
    ]


def _table() -> str:
    """The catalogue: name, languages, licence, date, MB of text before any limit."""
    from pretrain.corpus.catalog import catalog

    head = tuple(say(f"corpus-{c}") for c in ("name", "of", "licence", "date", "mb", "text"))
    rows = [head] + [
        (
            name,
            ",".join(source.languages),
            source.licence,
            source.date or say("corpus-of-package"),
            decimal_text(source.mb, 1),
            source.title,
        )
        for name, source in catalog().items()
    ]
    widths = [max(len(row[n]) for row in rows) for n in range(len(head))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if n == 4 else cell.ljust(width)
            for n, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )
