"""`lucie pretrain train`."""

from __future__ import annotations

from pathlib import Path

import click

from edge.bundle import Bundle
from edge.quantity import count_text, decimal_text
from pretrain.commands.words import say, stages, words
from pretrain.words import say as stage_say

__all__ = ["train"]


def _show_fields(ctx: click.Context, _: click.Parameter, asked: bool) -> None:
    """Print the fields of a recipe, as TOML that may be copied."""
    if asked:
        from pretrain.fields import listing

        click.echo(listing())
        ctx.exit()


@click.command("train", **words("train"))
@click.argument("recipe", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--set", "settings", multiple=True, metavar="FIELD=VALUE", help=say("train-set"))
@click.option("--work", type=click.Path(path_type=Path), help=say("train-work"))
@click.option("--fields", is_flag=True, is_eager=True, expose_value=False, callback=_show_fields,
              help=say("train-fields"))  # fmt: skip
def train(recipe: Path, out: Path, settings: tuple[str, ...], work: Path | None) -> None:
    """Train a Llama model of any shape."""
    from pretrain.recipe import Recipe, read_recipe
    from pretrain.run import Run
    from pretrain.run import train as make

    read = read_recipe(Recipe, recipe, settings)
    folder = work or out.with_name(f"{out.name}-training")
    with stages("train-interrupted", work=folder) as stage:

        def told(_: int, loss: float, speed: float) -> None:
            loss_text = decimal_text(loss, 3)
            stage.show(say("train-figures", loss=loss_text, speed=count_text(round(speed))))

        def stopping() -> None:
            click.echo("\n" + stage_say("train.stopping"), err=True)

        bundle = make(read, out, Run(folder), stage, told=told, stopping=stopping)
    _report(bundle, folder)


def _report(bundle: Bundle, folder: Path) -> None:
    click.echo(say("train-made", path=bundle.path, work=folder), err=True)
    for name, value in bundle.manifest.metrics.items():
        click.echo(f"  {name}: {decimal_text(value, 4)}", err=True)
