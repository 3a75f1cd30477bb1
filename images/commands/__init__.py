"""`lucie image`."""

from __future__ import annotations

import click

from edge.interrupt import end_as_by_ctrl_c
from images.commands.add_model import add_model
from images.commands.boards import boards
from images.commands.boot import boot
from images.commands.build import build
from images.commands.catalog import catalog
from images.commands.check import check
from images.commands.flash import flash
from images.commands.update import update
from images.commands.words import HELP, say

__all__ = ["image"]


@click.group(help=say("help"), epilog=say("example"), context_settings=HELP)
def image() -> None:
    """SD cards that boot into the chat."""
    end_as_by_ctrl_c()


for command in (add_model, boards, boot, build, catalog, check, flash, update):
    image.add_command(command)
