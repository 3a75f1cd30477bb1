"""`lucie distill run`."""

from __future__ import annotations

from pathlib import Path

import click

from distill.commands.words import WORDS, words
from distill.words import FOLDER
from pretrain.commands.training import options, show_fields
from pretrain.commands.training import run as train
from pretrain.words import FOLDER as TRAINING

__all__ = ["run"]


@click.command("run", **words("run"))
@options
@show_fields("distill.recipe", "ShrinkRecipe", (FOLDER, TRAINING))
def run(recipe: Path, out: Path, settings: tuple[str, ...], work: Path | None) -> None:
    """Cut and recover, in the steps of a recipe."""
    from distill.recipe import ShrinkRecipe
    from distill.shrinking import shrink
    from pretrain.recipe import read_recipe

    train(read_recipe(ShrinkRecipe, recipe, settings), shrink, out, work, WORDS)
