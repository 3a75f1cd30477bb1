"""Paths on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edge.messages import text

__all__ = ["AnyPath"]


class AnyPath(click.Path):
    """A path, there or not; none that is empty, which would be the folder that one is in.

    Whether it can be read, whoever reads it says: an error of usage would hide what to do.
    """

    def __init__(self) -> None:
        super().__init__(path_type=Path, readable=False)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path that `value` is."""
        if not str(value):
            self.fail(text("cli.no-path"), param, ctx)
        return super().convert(value, param, ctx)
