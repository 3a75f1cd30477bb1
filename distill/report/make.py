"""The report of a run: all its models measured, and what their trainings noted on the way."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from distill.recipe import ShrinkRecipe
from distill.report.entries import Curve, Entry, Point, Report, Trained
from distill.report.measure import Subject, measure
from distill.teaching.identity import model_sha256
from edge.checkpoint import Checkpoint
from pretrain.journal import read_journal
from pretrain.run import Run, Stage
from pretrain.texts import read_texts

__all__ = ["make_report", "training_run"]

_BITS = "bits_per_byte/"


def training_run(made: Path) -> Run:
    """Where a model of a run is trained."""
    return Run(made.with_name(f"{made.name}-training"))


def make_report(
    recipe: ShrinkRecipe, subjects: Sequence[Subject], folder: Path, stage: Stage
) -> Report:
    """Measure models, the teacher first.

    Args:
        recipe: of the run.
        subjects: the models.
        folder: of the run, where measurements are kept.
        stage: told what is being done.

    Raises:
        LucieError: a model cannot be read, or not be run here.
    """
    texts = read_texts(recipe, stage("tokens"))
    how = f"{recipe.evaluation_tokens} {recipe.report.model_dump_json()}"
    asked = hashlib.sha256(how.encode()).hexdigest()
    kept = folder / f"report-{asked[:8]}"
    entries: list[Entry] = []
    curves = []
    for subject in subjects:
        role = subject.role
        trained = None if role == "teacher" or role == "pruned" else role
        tokens = _tokens(recipe, subject.step) if trained else 0
        # By its weights, too: a model that was removed and trained again is measured again.
        known = model_sha256(Checkpoint.open(subject.folder), stage("verify"))
        file = kept / f"{subject.step}-{subject.role}-{known[:8]}.json"
        entries.append(measure(subject, recipe, texts, tokens, file, stage, entries))
        if trained:
            curves.append(_curve(recipe, subject, trained))
    return Report(
        quantization=recipe.report.quantization,
        context=recipe.report.context,
        entries=tuple(entries),
        curves=tuple(curves),
    )


def _tokens(recipe: ShrinkRecipe, step: int) -> int:
    steps = recipe.cuts[step - 1].steps or recipe.schedule.steps
    return steps * recipe.batch.sequences * recipe.data.length


def _curve(recipe: ShrinkRecipe, subject: Subject, role: Trained) -> Curve:
    """What a training measured on held-out text."""
    each = recipe.batch.sequences * recipe.data.length
    points = []
    for line in read_journal(training_run(subject.folder).folder):
        bits = {
            name.removeprefix(_BITS): value
            for name, value in line.items()
            if name.startswith(_BITS)
        }
        if bits:
            points.append(Point(tokens=round(line["step"]) * each, bits_per_byte=bits))
    return Curve(step=subject.step, role=role, points=tuple(points))
