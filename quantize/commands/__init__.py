"""`lucie quantize`."""

from __future__ import annotations

import click

from edge.interrupt import end_as_by_ctrl_c
from quantize.commands.compare import compare
from quantize.commands.export import dequantize, gguf, onnx
from quantize.commands.heal import heal
from quantize.commands.imatrix import imatrix
from quantize.commands.search import search
from quantize.commands.words import HELP, say

__all__ = ["quantize"]


@click.group(help=say("help"), epilog=say("example"), context_settings=HELP)
def quantize() -> None:
    """From a trained model to the files that boards run."""
    end_as_by_ctrl_c()


for _command in (gguf, onnx, dequantize, imatrix, compare, search, heal):
    quantize.add_command(_command)
