"""How good one model of a report is."""

from __future__ import annotations

from pathlib import Path

from distill.recipe import ShrinkRecipe
from distill.report.accuracy import measure_accuracy
from distill.report.bits import measure_bits
from distill.report.entries import Accuracy, Figure, Part, Task
from distill.report.kept import kept
from edge.manifest import Text
from pretrain.run import Stage
from pretrain.texts import Texts

__all__ = ["Quality", "measure_quality"]


class Quality(Part):
    """What depends on a model's weights, not on its shape alone."""

    bits_per_byte: dict[Text, Figure]
    """On held-out text, by language."""
    accuracy: dict[Task, Accuracy]
    """By task."""


def measure_quality(
    folder: Path, recipe: ShrinkRecipe, texts: Texts, file: Path, stage: Stage
) -> Quality:
    """Measure a model, or read what was measured, where the file is there.

    Args:
        folder: the model.
        recipe: says how it is measured.
        texts: of the recipe.
        file: where it is kept.
        stage: told what is being done.

    Raises:
        LucieError: the model cannot be read, or not be run here; the file cannot be written.
    """
    items, threads = recipe.report.items, recipe.parallel.threads

    def measured() -> Quality:
        bits = measure_bits(folder, recipe, texts, stage("report-bits"))
        accuracy = measure_accuracy(folder, items, threads, stage("report-accuracy"))
        return Quality(bits_per_byte=dict(bits), accuracy=accuracy)

    return kept(file, Quality, measured)
