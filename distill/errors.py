"""What can go wrong between a large model and a small one."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from distill.words import FOLDER
from edge.errors import LucieError, UsageError

__all__ = ["DistillError", "DistillUsageError"]


class DistillError(LucieError):
    """A plan, a measurement, a pruning or a distillation failed."""

    folder: ClassVar[Path] = FOLDER


class DistillUsageError(UsageError):
    """The command or the recipe is wrong as written."""

    folder: ClassVar[Path] = FOLDER
