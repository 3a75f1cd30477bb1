"""What the commands that train have in common, in this stage and in others."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from edge.commands.paths import AnyPath
from edge.commands.words import CommandWords
from edge.quantity import count_text, decimal_text
from pretrain.commands.words import WORDS, say
from pretrain.words import FOLDER
from pretrain.words import say as stage_say

if TYPE_CHECKING:
    from edge.bundle import Bundle
    from pretrain.recipe import BaseRecipe

__all__ = ["options", "run", "show_fields"]

R = TypeVar("R", bound="BaseRecipe")
Command = Callable[..., Any]


def options(command: Command) -> Command:
    """RECIPE, OUT and what every training can be told."""
    decorators = (
        click.argument("recipe", type=AnyPath()),
        click.argument("out", type=AnyPath()),
        click.option("--set", "settings", multiple=True, metavar="FIELD=VALUE",
                     help=say("train-set")),
        click.option("--work", type=AnyPath(), help=say("train-work")),
    )  # fmt: skip
    return reduce(lambda made, decorate: decorate(made), reversed(decorators), command)


def show_fields(
    module: str, name: str, folders: tuple[Path, ...] = (FOLDER,), subject: str = "fields"
) -> Callable[[Command], Command]:
    """The option that prints the fields of a kind of recipe, which is imported only then.

    Args:
        module: where it is defined.
        name: its class.
        folders: of the texts that say what its fields are; see `pretrain.fields.listing`.
        subject: the file in them.
    """

    def show(ctx: click.Context, _: click.Parameter, asked: bool) -> None:
        if asked:
            from pretrain.fields import listing

            click.echo(listing(getattr(import_module(module), name), folders, subject))
            ctx.exit()

    return click.option("--fields", is_flag=True, is_eager=True, expose_value=False,
                        callback=show, help=say("train-fields"))  # fmt: skip


def run(
    recipe: R,
    make: Callable[..., Bundle],
    out: Path,
    work: Path | None,
    words: CommandWords = WORDS,
    figures: Callable[[Bundle], str] | None = None,
    made: str = "train-made",
) -> None:
    """Train, show how it goes, and say what was made.

    Args:
        recipe: what to train.
        make: `pretrain.run.train`, or what takes the same.
        out: the folder to make.
        work: the folder of the training; beside `out`, where none is named.
        words: of the stage whose command it is.
        figures: tells what was measured; its metrics, a line each, where it is not given.
        made: the text that says what was made, and where more is told.
    """
    from pretrain.run import Run

    # Not with_name: a path without a name, as "/", is refused where the bundle is made.
    folder = work or out.parent / f"{out.name}-training"
    with words.stages("train-interrupted", work=folder) as stage:

        def told(_: int, loss: float, speed: float) -> None:
            loss_text = decimal_text(loss, 3)
            stage.show(words.say("train-figures", loss=loss_text, speed=count_text(round(speed))))

        def stopping() -> None:
            click.echo("\n" + stage_say("train.stopping"), err=True)

        bundle = make(recipe, out, Run(folder), stage, told=told, stopping=stopping)
    click.echo(words.say(made, path=bundle.path, work=folder), err=True)
    if shown := figures(bundle) if figures else _metrics(bundle, words):
        click.echo(shown, err=True)


def _metrics(bundle: Bundle, words: CommandWords) -> str:
    lines = []
    for name, value in bundle.manifest.metrics.items():
        what, _, of = name.partition(", ")
        entry = f"metric-{what.replace(' ', '-')}"
        lines.append(words.say(entry, of=of, value=decimal_text(value, 4)))
    return "\n".join(lines)
