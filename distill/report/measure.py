"""How good one model of a report is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from distill.recipe import ShrinkRecipe
from distill.report.accuracy import measure_accuracy
from distill.report.bits import measure_bits
from distill.report.entries import Accuracy, Role, Task, Trained
from distill.report.kept import kept
from pretrain.run import Stage
from pretrain.texts import Texts

__all__ = ["Quality", "Subject", "measure"]


@dataclass(frozen=True, slots=True)
class Subject:
    """A model that is to be measured."""

    step: int
    """Number of the cut that it comes after; 0: the teacher."""
    role: Role
    folder: Path
    """In Hugging Face's layout."""

    @property
    def trained(self) -> Trained | None:
        """How it was trained here, if it was."""
        role = self.role
        return None if role == "teacher" or role == "pruned" else role


class Quality(BaseModel):
    """What depends on a model's weights, not on its shape alone."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    bits_per_byte: dict[str, float]
    """On held-out text, by language."""
    accuracy: dict[Task, Accuracy]
    """By task."""


def measure(folder: Path, recipe: ShrinkRecipe, texts: Texts, file: Path, stage: Stage) -> Quality:
    """Measure a model, or read what was measured, where the file is there.

    Args:
        folder: the model.
        recipe: says how it is measured.
        texts: of the recipe.
        file: where it is kept.
        stage: told what is being done.

    Raises:
        LucieError: the model cannot be read, or not be run here.
    """
    items, threads = recipe.report.items, recipe.parallel.threads

    def measured(_: Path) -> Quality:
        bits = measure_bits(folder, recipe, texts, stage("report-bits"))
        accuracy = measure_accuracy(folder, items, threads, stage("report-accuracy"))
        return Quality(bits_per_byte=dict(bits), accuracy=accuracy)

    return kept(file, Quality, measured)
