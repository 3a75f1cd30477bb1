"""`lucie pretrain train`."""

from __future__ import annotations

from pathlib import Path

import click

from pretrain.commands.training import options, run, show_fields
from pretrain.commands.words import words

__all__ = ["train"]


@click.command("train", **words("train"))
@options
@show_fields("pretrain.recipe", "Recipe")
def train(recipe: Path, out: Path, settings: tuple[str, ...], work: Path | None) -> None:
    """Train a Llama model of any shape."""
    from pretrain.recipe import Recipe
    from pretrain.recipe_file import read_recipe
    from pretrain.run import train as make

    run(read_recipe(Recipe, recipe, settings), make, out, work)
