"""`lucie quantize compare`."""

from __future__ import annotations

import json

import click

from edge.messages import text
from edge.store import Store
from quantize.commands import options
from quantize.commands.stages import Stages
from quantize.commands.words import words

__all__ = ["compare"]


@click.command("compare", **words("compare"))
@click.argument("reference")
@click.argument("candidates", nargs=-1, required=True, metavar="CANDIDATE...")
@options.texts
@options.chunks
@options.threads
@click.option("--json", "as_json", is_flag=True, help=text("models.json"))
def compare(
    reference: str,
    candidates: tuple[str, ...],
    texts: tuple[str, ...],
    chunks: int | None,
    threads: int,
    as_json: bool,
) -> None:
    """Say how far quantized models are from their source."""
    from quantize.built_in_texts import MEASURE
    from quantize.comparison import as_data, table
    from quantize.measure import measure

    store = Store()
    paths = [store.find(name).weights for name in candidates]
    with Stages("compare-interrupted") as stages:
        found = measure(
            store.find(reference).weights,
            paths,
            options.texts_or(texts, MEASURE),
            chunks=chunks,
            threads=threads,
            progress=stages("read"),
        )
    if as_json:
        click.echo(json.dumps(as_data(candidates, paths, found), ensure_ascii=False, indent=2))
    else:
        click.echo(table(candidates, paths, found))
