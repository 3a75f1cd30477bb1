"""What can go wrong between a model folder and the files that a board runs."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from edge.errors import LucieError, UsageError
from quantize.words import FOLDER

__all__ = ["QuantizeError", "QuantizeUsageError"]


class QuantizeError(LucieError):
    """An export, a measurement or a search failed."""

    folder: ClassVar[Path] = FOLDER


class QuantizeUsageError(UsageError):
    """The command is wrong as written."""

    folder: ClassVar[Path] = FOLDER
