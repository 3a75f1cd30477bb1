"""What can go wrong between a text and a trained model."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from edge.errors import LucieError, UsageError
from pretrain.words import FOLDER

__all__ = ["PretrainError", "PretrainUsageError"]


class PretrainError(LucieError):
    """A text cannot be read, or a training failed."""

    folder: ClassVar[Path] = FOLDER


class PretrainUsageError(UsageError):
    """The command or the recipe is wrong as written."""

    folder: ClassVar[Path] = FOLDER
