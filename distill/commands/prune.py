"""`lucie distill prune`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from distill.commands.shape import heads as read_heads
from distill.commands.shape import sizes
from distill.commands.words import say, stages, words
from distill.errors import DistillUsageError
from edge.commands.numbers import Whole
from edge.commands.paths import AnyPath
from edge.quantity import count_text, decimal_text

__all__ = ["prune"]


@click.command("prune", **words("prune"))
@click.argument("model", type=AnyPath())
@click.argument("out", type=AnyPath())
@click.option("--importance", "measured", type=AnyPath(), required=True,
              metavar="BUNDLE", help=say("prune-importance"))  # fmt: skip
@sizes
@click.option("--tie/--no-tie", "tie", default=None, help=say("prune-tie"))
@click.option("--like", "config", type=AnyPath(), metavar="CONFIG.json",
              help=say("prune-like"))  # fmt: skip
@click.option("--layers-by", type=click.Choice(["distance", "influence", "loss"]),
              default="distance", show_default=True, help=say("prune-layers-by"))  # fmt: skip
@click.option("--keep-ends", type=Whole(0, 4096), default=1, show_default=True, metavar="N",
              help=say("prune-keep-ends"))  # fmt: skip
def prune(
    model: Path,
    out: Path,
    measured: Path,
    layers: int | None,
    width: int | None,
    ffn: int | None,
    heads: str | None,
    tie: bool | None,
    config: Path | None,
    layers_by: Literal["distance", "influence", "loss"],
    keep_ends: int,
) -> None:
    """Cut a smaller model out of a larger one."""
    from distill.pruning.choice import Rules
    from distill.pruning.prune import prune as make
    from distill.pruning.shape import Wanted, check_smaller, shape
    from edge.bundle import Bundle
    from edge.checkpoint import read_config
    from edge.workshop import check_free
    from quantize.checkpoint.source import open_source

    wanted = Wanted(layers, width, ffn, read_heads(heads), tie)
    if (config is None) == (wanted == Wanted()):
        raise DistillUsageError("prune.which-shape")
    rules = Rules(layers_by, keep_ends)
    check_free(out)
    with stages() as stage:
        source = open_source(model, stage("verify"))
        teacher = source.checkpoint.config
        student = shape(teacher, wanted) if config is None else read_config(config)
        check_smaller(teacher, student)
        importance = Bundle.open(measured, verify=True)
        bundle = make(source, importance, student, out, rules=rules, stage=stage)
    figures = bundle.manifest.metrics
    share = figures["parameters"] / figures["parameters of the teacher"]
    click.echo(
        say(
            "pruned",
            path=bundle.path,
            parameters=count_text(int(figures["parameters"])),
            share=decimal_text(100 * share, 1),
        ),
        err=True,
    )
