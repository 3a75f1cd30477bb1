"""`lucie distill cache`."""

from __future__ import annotations

from pathlib import Path

import click

from distill.commands.words import say, stages, words
from edge.commands.numbers import Whole
from edge.commands.paths import AnyPath
from edge.quantity import decimal_text, size_text

__all__ = ["cache"]

_METHODS = ("stratified", "independent", "top-k")


@click.command("cache", **words("cache"))
@click.argument("recipe", type=AnyPath())
@click.argument("out", type=AnyPath())
@click.option("--set", "settings", multiple=True, metavar="FIELD=VALUE", help=say("recipe-set"))
@click.option("--words", "n_words", type=Whole(1, 256), default=12, show_default=True, metavar="N",
              help=say("cache-words"))  # fmt: skip
@click.option("--method", type=click.Choice(_METHODS), default=_METHODS[0], show_default=True,
              help=say("cache-method"))  # fmt: skip
@click.option("--seed", type=Whole(0, 2**32 - 1), default=0, show_default=True, metavar="N",
              help=say("cache-seed"))  # fmt: skip
def cache(
    recipe: Path, out: Path, settings: tuple[str, ...], n_words: int, method: str, seed: int
) -> None:
    """Let a teacher speak once, for many students."""
    from distill.caching import cache as make
    from distill.recipe import DistillRecipe
    from pretrain.recipe_file import read_recipe

    read = read_recipe(DistillRecipe, recipe, settings)
    with stages("cache-interrupted", out=out) as stage:
        bundle = make(read, out, stage, words=n_words, method=method, seed=seed)
    metrics = bundle.manifest.metrics
    size = sum(file.size for file in bundle.manifest.files.values())
    each = decimal_text(metrics["bytes a token"], 1)
    click.echo(say("cache-made", path=bundle.path, size=size_text(size), each=each), err=True)
