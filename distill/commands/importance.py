"""`lucie distill importance`."""

from __future__ import annotations

from pathlib import Path

import click

from distill.commands.words import say, stages, words
from edge.commands.numbers import Whole
from edge.commands.paths import AnyPath
from edge.quantity import count_text, decimal_text

__all__ = ["importance"]


@click.command("importance", **words("importance"))
@click.argument("model", type=AnyPath())
@click.argument("out", type=AnyPath())
@click.option("--text", "texts", multiple=True, metavar="[LANG=]FILE", help=say("importance-text"))
@click.option("--tokens", type=Whole(2, 1 << 31), default=65_536, show_default=True, metavar="N",
              help=say("importance-tokens"))  # fmt: skip
@click.option("--length", type=Whole(2, 1 << 20), metavar="N", help=say("importance-length"))
@click.option("--layer-loss", is_flag=True, help=say("importance-layer-loss"))
@click.option("--dtype", type=click.Choice(["float32", "bfloat16"]), default="float32",
              show_default=True, help=say("importance-dtype"))  # fmt: skip
@click.option("--threads", type=Whole(0, 512), default=0, metavar="N",
              help=say("importance-threads"))  # fmt: skip
def importance(
    model: Path,
    out: Path,
    texts: tuple[str, ...],
    tokens: int,
    length: int | None,
    layer_loss: bool,
    dtype: str,
    threads: int,
) -> None:
    """Measure what in a model matters."""
    from distill.pruning.importance import Calibration, measure
    from edge.workshop import check_free
    from quantize.checkpoint.source import open_source
    from quantize.measuring.built_in_texts import CALIBRATION
    from quantize.measuring.calibration import parse

    calibration = Calibration(
        texts=parse(texts) if texts else CALIBRATION,
        tokens=tokens,
        length=length,
        layer_loss=layer_loss,
        dtype=dtype,
        threads=threads,
    )
    check_free(out)
    with stages("importance-interrupted") as stage:
        source = open_source(model, stage("verify"))
        bundle = measure(source, out, calibration, stage)
    figures = bundle.manifest.metrics
    click.echo(
        say(
            "importance-measured",
            path=bundle.path,
            tokens=count_text(int(figures["tokens"])),
            loss=decimal_text(figures["loss, nats a token"], 3),
        ),
        err=True,
    )
    if len({text.label for text in calibration.texts}) == 1:
        click.echo(say("importance-one-language"), err=True)
