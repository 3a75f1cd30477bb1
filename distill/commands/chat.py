"""`lucie distill chat`."""

from __future__ import annotations

from pathlib import Path

import click

from distill.commands.words import WORDS, words
from distill.words import FOLDER
from pretrain.commands.training import options, run, show_fields

__all__ = ["chat"]


@click.command("chat", **words("chat"))
@options
@show_fields("distill.chat.recipe", "ChatRecipe", (FOLDER,), "chatfields")
def chat(recipe: Path, out: Path, settings: tuple[str, ...], work: Path | None) -> None:
    """Let a student answer prompts, and learn what its teacher thinks of each word."""
    from distill.chat.recipe import ChatRecipe
    from distill.chat.stage import teach
    from pretrain.recipe_file import read_recipe

    run(read_recipe(ChatRecipe, recipe, settings), teach, out, work, WORDS)
