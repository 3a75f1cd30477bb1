"""What can go wrong between a model and a card that boots."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from edge.errors import LucieError, UsageError
from images.words import FOLDER

__all__ = ["ImageError", "ImageUsageError"]


class ImageError(LucieError):
    """An image or a card is not what it should be, or fails."""

    folder: ClassVar[Path] = FOLDER


class ImageUsageError(UsageError):
    """The command is wrong as written."""

    folder: ClassVar[Path] = FOLDER
