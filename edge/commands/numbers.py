"""Numbers on the command line; what is none is answered in the user's words."""

from __future__ import annotations

import math
from typing import Any

import click

from edge.messages import text

__all__ = ["Real", "Whole"]


class Whole(click.IntRange):
    """A whole number in a range."""

    name = text("cli.whole-number")


class Real(click.FloatRange):
    """A finite number in a range; `nan` is in none, and would pass every comparison."""

    name = text("cli.number")

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """The number that `value` is."""
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(text("cli.not-finite", value=value), param, ctx)
        return number
