"""The report of a run: all its models measured, and what their trainings noted on the way."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from distill.planning.tables import shape_text
from distill.recipe import ShrinkRecipe
from distill.report.entries import Curve, Entry, Here, Point, Report, Role, Trained
from distill.report.names import model_name
from distill.report.quality import Quality, measure_quality
from distill.report.speed import Measured, measure_here, predicted
from distill.teaching.identity import model_sha256
from edge.checkpoint import Checkpoint
from edge.llama_config import LlamaConfig
from pretrain.journal import read_measurements
from pretrain.run import Run, Stage
from pretrain.texts import Texts, measured_on, read_texts

__all__ = ["Note", "Subject", "make_report", "training_run"]

Note = Callable[..., object]
"""Called with an entry of `command.toml`, and its facts."""


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


def training_run(made: Path) -> Run:
    """Where a model of a run is trained."""
    return Run(made.with_name(f"{made.name}-training"))


def make_report(
    recipe: ShrinkRecipe, subjects: Sequence[Subject], folder: Path, stage: Stage, note: Note
) -> Report:
    """Measure models, the teacher first.

    Args:
        recipe: of the run.
        subjects: the models.
        folder: of the run, where measurements are kept.
        stage: told what is being done.
        note: told which model it is about.

    Raises:
        LucieError: a model cannot be read, or not be run here.
    """
    texts = read_texts(recipe, stage("tokens"))
    place = folder / f"report-{_how(recipe, texts)}"
    qualities = []
    for n, subject in enumerate(subjects, 1):
        name = model_name(subject.step, subject.role)
        note("run-measure", model=name, n=n, of=len(subjects))
        # By its weights, too: a model that was removed and trained again is measured again.
        known = model_sha256(Checkpoint.open(subject.folder), stage("verify"))
        file = place / f"{subject.step}-{subject.role}-{known[:8]}.json"
        qualities.append(measure_quality(subject.folder, recipe, texts, file, stage))
    note("run-speed")
    configs = [Checkpoint.open(subject.folder).config for subject in subjects]
    window = min(config.max_position_embeddings for config in configs)
    context = min(recipe.report.context, window)
    here, measured = _speeds(recipe, subjects, configs, folder, stage)
    parts = zip(subjects, configs, qualities, measured, strict=True)
    on = measured_on(texts.held_out, recipe.evaluation_tokens)
    return Report(
        quantization=recipe.report.quantization,
        context=context,
        here=here,
        entries=tuple(_entry(recipe, context, *part) for part in parts),
        curves=tuple(
            _curve(recipe, subject, role, quality, on)
            for subject, quality in zip(subjects, qualities, strict=True)
            if (role := subject.trained)
        ),
    )


def _how(recipe: ShrinkRecipe, texts: Texts) -> str:
    """What is alike for all that may stand in one report: how it is measured, and on what."""
    read = [(each.language, each.row.identity) for each in texts.held_out]
    how = (recipe.data.length, recipe.evaluation_tokens, recipe.precision, recipe.report, read)
    return hashlib.sha256(repr(how).encode()).hexdigest()[:8]


def _speeds(
    recipe: ShrinkRecipe,
    subjects: Sequence[Subject],
    configs: Sequence[LlamaConfig],
    folder: Path,
    stage: Stage,
) -> tuple[Here, list[Measured]]:
    """Size and speed of each, which follow from its shape, and are measured once of that."""
    shapes = [config.model_dump_json() for config in configs]
    alike = {shape: subject.folder for shape, subject in zip(shapes, subjects, strict=True)}
    quantization, threads = recipe.report.quantization, recipe.parallel.threads
    speeds = measure_here(list(alike.values()), quantization, folder, threads, stage)
    of_shape = dict(zip(alike, speeds.models, strict=True))
    return speeds.here, [of_shape[shape] for shape in shapes]


def _entry(
    recipe: ShrinkRecipe,
    context: int,
    subject: Subject,
    config: LlamaConfig,
    quality: Quality,
    measured: Measured,
) -> Entry:
    return Entry(
        step=subject.step,
        role=subject.role,
        shape=shape_text(config),
        parameters=config.parameters,
        tokens=_tokens(recipe, subject.step) if subject.trained else 0,
        bits_per_byte=quality.bits_per_byte,
        accuracy=quality.accuracy,
        file_bytes=measured.file_bytes,
        here=measured.here,
        boards=predicted(config, recipe.report.quantization, context),
    )


def _tokens(recipe: ShrinkRecipe, step: int) -> int:
    steps = recipe.cuts[step - 1].steps or recipe.schedule.steps
    return steps * recipe.batch.sequences * recipe.data.length


def _curve(
    recipe: ShrinkRecipe, subject: Subject, role: Trained, quality: Quality, on: str
) -> Curve:
    """What a training measured on the text that the report is on; its end in any case."""
    each = recipe.batch.sequences * recipe.data.length
    whole, last = _tokens(recipe, subject.step), quality.bits_per_byte
    points = [
        Point(tokens=step * each, bits_per_byte=bits)
        for step, bits in read_measurements(training_run(subject.folder).folder, on)
        if last.keys() <= bits.keys()  # versions before did not note on what they measured
    ]
    if last and not any(point.tokens == whole for point in points):
        points.append(Point(tokens=whole, bits_per_byte=last))
    return Curve(step=subject.step, role=role, points=tuple(points))
