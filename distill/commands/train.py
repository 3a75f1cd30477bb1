"""`lucie distill train`."""

from __future__ import annotations

from pathlib import Path

import click

from distill.commands.words import WORDS, words
from distill.words import FOLDER
from pretrain.commands.training import options, run, show_fields
from pretrain.words import FOLDER as TRAINING

__all__ = ["train"]


@click.command("train", **words("train"))
@options
@show_fields("distill.recipe", "DistillRecipe", (FOLDER, TRAINING))
def train(recipe: Path, out: Path, settings: tuple[str, ...], work: Path | None) -> None:
    """Train a student to say what a teacher says."""
    from distill.recipe import DistillRecipe
    from distill.training import distil
    from pretrain.recipe_file import read_recipe

    run(read_recipe(DistillRecipe, recipe, settings), distil, out, work, WORDS)
