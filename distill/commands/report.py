"""`lucie distill report`."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import click

from distill.commands.words import say, words
from distill.errors import DistillError
from edge.commands.paths import AnyPath
from edge.messages import text

__all__ = ["report"]


@click.command("report", **words("report"))
@click.argument("model", type=AnyPath())
@click.option("--picture", type=AnyPath(), metavar="FILE",
              help=say("report-picture"))  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help=text("models.json"))
def report(model: Path, picture: Path | None, as_json: bool) -> None:
    """Show what shrinking has cost."""
    from distill.planning.picture import check
    from distill.report.entries import read_report
    from distill.report.picture import draw, draw_in_terminal
    from distill.report.table import table

    if picture is not None:
        check(picture)
    found = read_report(model)
    drawable = bool(found.teacher.bits_per_byte and found.curves)
    if picture is not None and not drawable:
        raise DistillError("report.nothing-to-draw", path=str(model))
    in_terminal = sys.stdout.isatty()
    if as_json:
        click.echo(found.model_dump_json(indent=2))
    else:
        width = shutil.get_terminal_size().columns
        click.echo(table(found, width if in_terminal else None))
        if in_terminal and drawable:
            click.echo("\n" + draw_in_terminal(found, width))
    if picture is not None:
        draw(found, picture)
        click.echo(say("drawn", path=picture), err=True)
