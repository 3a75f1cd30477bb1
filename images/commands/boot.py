"""`lucie image boot`."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge.commands.numbers import Whole
from edge.commands.paths import AnyPath
from edge.paths import cache_dir
from edge.quantity import decimal_text
from images.commands.words import say, words

if TYPE_CHECKING:
    from images.booting.turn import Turn

__all__ = ["boot"]

_MACHINES = ("raspi3b", "virt-a53", "virt-a72", "virt-a76", "virt-uefi")


@click.command("boot", **words("boot"))
@click.argument("image", type=AnyPath())
@click.option("--machine", type=click.Choice(_MACHINES), default="virt-a72", show_default=True,
              help=say("boot-machine"))  # fmt: skip
@click.option("--test", "test", is_flag=True, help=say("boot-test"))
@click.option("--ask", "questions", multiple=True, default=[say("boot-question")],
              show_default=True, metavar="TEXT", help=say("boot-ask"))  # fmt: skip
@click.option("--words", "most_words", type=Whole(1), default=20, show_default=True, metavar="N",
              help=say("boot-words"))  # fmt: skip
@click.option("--patience", type=Whole(1), default=1200, show_default=True, metavar="SECONDS",
              help=say("boot-patience"))  # fmt: skip
@click.pass_context
def boot(
    ctx: click.Context,
    image: Path,
    machine: str,
    test: bool,
    questions: tuple[str, ...],
    most_words: int,
    patience: int,
) -> None:
    """Start an image in an emulator."""
    from images.booting.machine import MACHINES, start
    from images.booting.turn import talk

    logs = cache_dir() / "images"
    with tempfile.TemporaryDirectory(prefix="lucie-boot-", dir="/var/tmp") as folder:
        click.echo(say("boot-preparing"), err=True)
        started = start(image, MACHINES[machine], Path(folder), logs / "boot.log")
        if not test:
            click.echo(say("boot-leave"), err=True)
            ctx.exit(subprocess.run(started.command(), check=False).returncode)
        click.echo(say("boot-starting", machine=machine), err=True)
        console = logs / "console.log"
        had = talk(started.command(), questions, console, patience, _tell, most_words)
    click.echo(had.screen)
    start_s = {"screen": decimal_text(had.screen_s, 1), "ready": decimal_text(had.ready_s, 1)}
    click.echo(say("boot-times", **start_s), err=True)


def _tell(turn: Turn, _screen: str) -> None:
    times = {"first": decimal_text(turn.first_s, 1), "answer": decimal_text(turn.answer_s, 1)}
    how = "boot-stopped" if turn.stopped else "boot-turn"
    click.echo(say(how, words=turn.words, **times), err=True)
