"""`lucie quantize compare`."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge.commands.paths import AnyPath
from edge.errors import InterruptedByUserError
from edge.messages import text
from edge.store import Store
from quantize.commands import options
from quantize.commands.words import say, stages, words
from quantize.errors import QuantizeError, QuantizeUsageError

if TYPE_CHECKING:
    from quantize.measuring.speed import Speed
    from quantize.report.table import Compared

__all__ = ["compare"]


@click.command("compare", **words("compare"))
@click.argument("reference")
@click.argument("candidates", nargs=-1, required=True, metavar="CANDIDATE...")
@options.texts
@options.chunks
@options.threads
@click.option("--speed/--no-speed", "timed", default=True, help=say("speed"))
@click.option("--picture", type=AnyPath(), metavar="FILE", help=say("picture"))
@click.option("--json", "as_json", is_flag=True, help=text("models.json"))
def compare(
    reference: str,
    candidates: tuple[str, ...],
    texts: tuple[str, ...],
    chunks: int | None,
    threads: int,
    timed: bool,
    picture: Path | None,
    as_json: bool,
) -> None:
    """Say how far quantized models are from their source."""
    from quantize.measuring.built_in_texts import MEASURE
    from quantize.measuring.candidates import measure
    from quantize.measuring.side_by_side import groups
    from quantize.measuring.speed import measure_speed
    from quantize.report.table import Compared, as_data, table

    if picture is not None:
        _check(picture)
    store = Store()
    names = [reference, *candidates]
    paths = [store.find(name).weights for name in names]
    with stages("compare-interrupted") as stage:
        figures = [
            found
            for group in groups(paths[0], paths[1:])
            for found in measure(
                paths[0],
                group,
                options.texts_or(texts, MEASURE),
                chunks=chunks,
                threads=threads,
                progress=stage("read"),
            )
        ]
    speeds: Sequence[Speed | None] = [None] * len(paths)
    interrupted: InterruptedByUserError | None = None
    if timed:
        try:
            with stages("speed-interrupted") as stage:
                speeds = measure_speed(paths, threads, progress=stage("speed"))
        except InterruptedByUserError as error:  # what has been measured is shown
            interrupted = error
    rows = [Compared.of(*row) for row in zip(names, paths, [None, *figures], speeds, strict=True)]
    in_terminal = sys.stdout.isatty()
    if as_json:
        click.echo(json.dumps(as_data(rows), ensure_ascii=False, indent=2, allow_nan=False))
    else:
        click.echo(table(rows, shutil.get_terminal_size().columns if in_terminal else None))
    _draw(rows, picture, in_terminal=in_terminal and not as_json)
    if interrupted is not None:
        raise interrupted


def _check(picture: Path) -> None:
    """Before minutes of measuring."""
    from quantize.report.picture import FORMATS

    if picture.suffix.lower() not in FORMATS:
        raise QuantizeUsageError("compare.format", path=str(picture), known=", ".join(FORMATS))
    for wrong, number in (
        (picture.is_dir(), errno.EISDIR),
        (not picture.parent.is_dir(), errno.ENOENT),
        (not os.access(picture.parent, os.W_OK | os.X_OK), errno.EACCES),
    ):
        if wrong:
            reason = os.strerror(number)
            raise QuantizeError("compare.unwritable", path=str(picture), reason=reason)


def _draw(rows: list[Compared], path: Path | None, *, in_terminal: bool) -> None:
    from quantize.report.picture import draw, draw_in_terminal

    if path is not None:
        draw(rows, path)
        click.echo(say("drawn", path=path), err=True)
    if in_terminal and any(row.kld and row.kld.value > 0 for row in rows):
        click.echo("\n" + draw_in_terminal(rows, shutil.get_terminal_size().columns))
