"""One model of a report, measured; what has been measured once is kept in a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from distill.planning.tables import shape_text
from distill.recipe import ShrinkRecipe
from distill.report.accuracy import measure_accuracy
from distill.report.bits import measure_bits
from distill.report.entries import Entry, Role
from distill.report.speed import measure_here, predicted
from edge.checkpoint import Checkpoint
from edge.workshop import workshop
from pretrain.run import Stage
from pretrain.texts import Texts

__all__ = ["Subject", "measure"]


@dataclass(frozen=True, slots=True)
class Subject:
    """A model that is to be measured."""

    step: int
    """Number of the cut that it comes after; 0: the teacher."""
    role: Role
    folder: Path
    """In Hugging Face's layout."""


def measure(
    subject: Subject,
    recipe: ShrinkRecipe,
    texts: Texts,
    tokens: int,
    kept: Path,
    stage: Stage,
    known: Sequence[Entry] = (),
) -> Entry:
    """An entry of a report, from the file `kept` where it is there.

    Size and speed follow from the shape, and are measured once of each.

    Args:
        subject: the model.
        recipe: says how it is measured.
        texts: of the recipe.
        tokens: that it was trained on since its cut.
        kept: the file.
        stage: told what is being done.
        known: entries that were measured before.

    Raises:
        LucieError: the model cannot be read, or not be run here.
    """
    found = _kept(kept)
    if found is not None:
        return found
    asked = recipe.report
    config = Checkpoint.open(subject.folder).config
    threads = recipe.parallel.threads
    bits = measure_bits(subject.folder, recipe, texts, stage("report-bits"))
    accuracy = measure_accuracy(subject.folder, asked.items, threads, stage("report-accuracy"))
    with workshop(kept) as draft:
        shape = shape_text(config), config.parameters
        alike = next((each for each in known if (each.shape, each.parameters) == shape), None)
        made = alike or measure_here(
            subject.folder, asked.quantization, draft, threads, stage("report-speed")
        )
        entry = Entry(
            step=subject.step,
            role=subject.role,
            shape=shape_text(config),
            parameters=config.parameters,
            tokens=tokens,
            bits_per_byte=dict(bits),
            accuracy=accuracy,
            file_bytes=made.file_bytes,
            here=made.here,
            boards=predicted(config, asked.quantization, asked.context),
        )
        (draft / kept.name).write_text(entry.model_dump_json(indent=1), encoding="utf-8")
        (draft / kept.name).replace(kept)
    return entry


def _kept(kept: Path) -> Entry | None:
    """What a pulled plug has damaged is measured again."""
    try:
        return Entry.model_validate_json(kept.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError:
        kept.unlink()
        return None
