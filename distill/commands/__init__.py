"""`lucie distill`."""

from __future__ import annotations

import click

from distill.commands.cache import cache
from distill.commands.chat import chat
from distill.commands.importance import importance
from distill.commands.plan import plan
from distill.commands.prune import prune
from distill.commands.report import report
from distill.commands.run import run
from distill.commands.train import train
from distill.commands.words import HELP, say
from edge.interrupt import end_as_by_ctrl_c

__all__ = ["distill"]


@click.group(help=say("help"), epilog=say("example"), context_settings=HELP)
def distill() -> None:
    """From a large model to one that a board runs well."""
    end_as_by_ctrl_c()


for _command in (plan, importance, prune, cache, train, run, report, chat):
    distill.add_command(_command)
