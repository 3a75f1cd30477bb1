"""`lucie quantize imatrix`."""

from __future__ import annotations

from pathlib import Path

import click

from edge.commands.paths import AnyPath
from edge.quantity import count_text
from edge.store import Store
from quantize.commands import options
from quantize.commands.words import say, stages, words

__all__ = ["imatrix"]


@click.command("imatrix", **words("imatrix"))
@click.argument("model")
@click.argument("texts", nargs=-1, metavar="[[LANG=]TEXT]...")
@click.option("-o", "--output", type=AnyPath(), help=say("imatrix-output"))
@options.chunks
@options.threads
def imatrix(
    model: str, texts: tuple[str, ...], output: Path | None, chunks: int | None, threads: int
) -> None:
    """Collect an importance matrix."""
    from quantize.measuring.built_in_texts import CALIBRATION
    from quantize.measuring.importance import collect

    path = Store().find(model).weights
    target = output or Path(f"{path.stem}.imatrix.gguf")
    labelled = options.calibration_or(texts, CALIBRATION)
    with stages("imatrix-interrupted") as stage:
        made = collect(
            path, labelled, target, chunks=chunks, threads=threads, progress=stage("read")
        )
    tokens = count_text(made.chunk_count * made.chunk_size)
    click.echo(say("collected", path=target, count=len(made.entries), tokens=tokens), err=True)
