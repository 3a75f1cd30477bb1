"""`lucie distill plan`."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from distill.commands.shape import heads as read_heads
from distill.commands.shape import sizes
from distill.commands.words import say, stages, words
from distill.errors import DistillUsageError
from edge.commands.numbers import Whole
from edge.commands.paths import AnyPath
from edge.messages import text

if TYPE_CHECKING:
    from distill.planning.plan import Plan
    from distill.planning.target import Target

__all__ = ["plan"]

_CONTEXT = 2048
"""Tokens of the KV cache where nobody says; fewer, where the teacher reads fewer."""
_TYPES = ("F16", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_0")


@click.command("plan", **words("plan"))
@click.argument("teacher")
@click.argument("target")
@sizes
@click.option("--context", type=Whole(1, 1 << 24), metavar="N", help=say("plan-context"))
@click.option("--type", "quantization", type=click.Choice(_TYPES, case_sensitive=False),
              default="Q4_K_M", show_default=True, metavar="|".join(_TYPES),
              help=say("plan-type"))  # fmt: skip
@click.option("--tie/--no-tie", "tied", default=True, help=say("plan-tie"))
@click.option("--here", is_flag=True, help=say("plan-here"))
@click.option("--picture", type=AnyPath(), metavar="FILE",
              help=say("plan-picture"))  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help=text("models.json"))
def plan(
    teacher: str,
    target: str,
    layers: int | None,
    width: int | None,
    ffn: int | None,
    heads: str | None,
    context: int | None,
    quantization: str,
    tied: bool,
    here: bool,
    picture: Path | None,
    as_json: bool,
) -> None:
    """Find a shape for a board or a number of parameters, and what it would cost."""
    from distill.planning.boards import HERE
    from distill.planning.here import measure
    from distill.planning.plan import make_plan
    from distill.planning.target import OnBoard, parse
    from distill.planning.teacher import read_teacher
    from distill.pruning.shape import Wanted, shape

    wanted = parse(target)
    own = Wanted(layers, width, ffn, read_heads(heads))
    if picture is not None:
        from distill.planning.picture import check

        check(picture)
    name, config = read_teacher(teacher)
    asked = None
    if own != Wanted():
        asked = shape(config, replace(own, tie=tied))
    tokens = _context(context, wanted, config.max_position_embeddings)
    board = None
    if here or (isinstance(wanted, OnBoard) and wanted.board == HERE):
        with stages() as stage:
            board = measure(stage("here"))
    made = make_plan(
        name, config, wanted, asked=asked, context=tokens, quantization=quantization, tied=tied,
        here=board,
    )  # fmt: skip
    in_terminal = sys.stdout.isatty()
    if as_json:
        from distill.planning.figures import as_data

        click.echo(json.dumps(as_data(made), ensure_ascii=False, indent=2, allow_nan=False))
    else:
        from distill.planning.tables import show

        click.echo(show(made, shutil.get_terminal_size().columns if in_terminal else None))
    _draw(made, picture, in_terminal=in_terminal and not as_json)


def _context(given: int | None, target: Target, window: int) -> int:
    """Tokens in the KV cache; whoever says it twice must say the same."""
    from distill.planning.target import OnBoard

    said = target.context if isinstance(target, OnBoard) else None
    if said and given and said != given:
        raise DistillUsageError("plan.two-contexts", option=given, target=said)
    return said or given or min(_CONTEXT, window)


def _draw(made: Plan, path: Path | None, *, in_terminal: bool) -> None:
    if path is not None:
        from distill.planning.picture import draw

        draw(made, path)
        click.echo(say("drawn", path=path), err=True)
    if in_terminal:
        from distill.planning.picture import draw_in_terminal

        click.echo("\n" + draw_in_terminal(made, shutil.get_terminal_size().columns))
