"""`lucie pretrain`."""

from __future__ import annotations

import click

from edge.interrupt import end_as_by_ctrl_c
from pretrain.commands.corpus import corpus
from pretrain.commands.train import train
from pretrain.commands.words import HELP, say

__all__ = ["pretrain"]


@click.group(help=say("help"), epilog=say("example"), context_settings=HELP)
def pretrain() -> None:
    """From open text to a trained model."""
    end_as_by_ctrl_c()


for _command in (corpus, train):
    pretrain.add_command(_command)
