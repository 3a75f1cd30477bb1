"""`lucie distill run`."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from distill.commands.words import WORDS, words
from distill.words import FOLDER
from pretrain.commands.training import options, show_fields
from pretrain.commands.training import run as train
from pretrain.words import FOLDER as TRAINING

if TYPE_CHECKING:
    from distill.recipe import ShrinkRecipe
    from edge.bundle import Bundle
    from edge.commands.stages import Stages
    from pretrain.run import Run

__all__ = ["run"]


@click.command("run", **words("run"))
@options
@show_fields("distill.recipe", "ShrinkRecipe", (FOLDER, TRAINING))
def run(recipe: Path, out: Path, settings: tuple[str, ...], work: Path | None) -> None:
    """Cut and recover, in the steps of a recipe."""
    from distill.recipe import ShrinkRecipe
    from distill.shrinking import shrink
    from pretrain.recipe_file import read_recipe

    asked = read_recipe(ShrinkRecipe, recipe, settings)

    def make(recipe: ShrinkRecipe, out: Path, run: Run, stage: Stages, **hooks: Any) -> Bundle:
        def note(entry: str, **facts: Any) -> None:
            stage.tell(WORDS.say(entry, **facts))

        return shrink(recipe, out, run, stage, note=note, **hooks)

    train(asked, make, out, work, WORDS, figures=_figures, made="run-made")


def _figures(bundle: Bundle) -> str:
    """The report's table, as wide as the terminal."""
    from distill.report.entries import read_report
    from distill.report.table import table

    width = shutil.get_terminal_size().columns if sys.stderr.isatty() else None
    return "\n" + table(read_report(bundle.path), width)
