"""Shrinking in several steps: measure, cut, recover; and again; then say what it cost.

    RUN/
    ├── recipe.json
    ├── 1-importance/, 1-pruned/, 1-distilled/, 1-distilled-training/
    ├── 1-cross-entropy/, 1-scratch/, …       with what it is compared, where that is asked for
    ├── 2-importance/, …
    ├── report-1a2b3c4d/                      how good each is, so far
    └── speed-5e6f7a8b.json                   how large and how fast each shape is

Each of these is a bundle, there or not; so whatever ended a run, the next one begins with the
first that is missing, and a training goes on from its last checkpoint. The last model and the
report of all become the bundle that was asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from distill.baselines import Baseline, baseline
from distill.errors import DistillError, DistillUsageError
from distill.planning.tables import shape_text
from distill.pruning.choice import Rules
from distill.pruning.shape import Wanted, check_smaller, shape
from distill.recipe import ShrinkRecipe
from distill.report.bundle import publish
from distill.report.entries import Role
from distill.report.make import Note, Subject, make_report, training_run
from distill.teacher_check import check_inside, check_teacher, teacher_identity
from distill.training import distil
from edge.bundle import Bundle
from edge.checkpoint import Checkpoint
from edge.llama_config import LlamaConfig
from edge.workshop import check_free
from pretrain.difference import difference
from pretrain.identity import fingerprint
from pretrain.origin import Origin, origin_of
from pretrain.recipe import Recipe
from pretrain.run import Run, Stage, Told, train
from pretrain.shape import check_shape
from pretrain.texts import Texts, read_texts

if TYPE_CHECKING:
    from distill.pruning.importance import Calibration

__all__ = ["shrink"]


def shrink(
    recipe: ShrinkRecipe,
    out: Path,
    run: Run,
    stage: Stage,
    *,
    told: Told = lambda *_: None,
    stopping: Callable[[], object] = lambda: None,
    note: Note = lambda *_, **__: None,
) -> Bundle:
    """Make the bundle `out` of a teacher, in the steps of a recipe.

    Args:
        recipe: the steps.
        out: the folder to make.
        run: whose folder holds what is made on the way.
        stage: told what is being done.
        told: called after each step of training with its number, its loss and tokens a second.
        stopping: called when it has been asked to stop, and may take a while to.

    Raises:
        LucieError: something of it fails; what was made so far is kept.
    """
    check_free(out)
    shapes = _shapes(recipe)
    with run.held(out, DistillError("shrink.busy", path=str(run.folder))):
        _begin(recipe, run)
        texts, taught_by = _check(recipe, shapes, run, stage)
        work = _Work(recipe, run.folder, texts, taught_by, stage, told, stopping)
        subjects = [Subject(0, "teacher", Path(recipe.teacher.model))]
        model, cuts = Path(recipe.model.start or ""), []
        for n in range(len(recipe.cuts)):
            note("run-cut", n=n + 1, of=len(shapes), shape=shape_text(shapes[n]))
            pruned = work.cut(n, model)
            model = work.distil(n, pruned)
            subjects += [Subject(n + 1, "pruned", pruned), Subject(n + 1, "distilled", model)]
            subjects += [Subject(n + 1, role, made) for role, made in work.baselines(n, pruned)]
            cuts.append(pruned)
        report = make_report(recipe, subjects, run.folder, stage, note)
        return publish(out, model, cuts, recipe, report, stage)


def _shapes(recipe: ShrinkRecipe) -> list[LlamaConfig]:
    """What is left after each cut.

    Raises:
        LucieError: what is to be cut cannot be read, or a cut leaves no slice of what was before.
    """
    shapes = [Checkpoint.open(Path(recipe.model.start or "")).config]
    for n in range(len(recipe.cuts)):
        try:
            left = shape(shapes[-1], _wanted(recipe, n))
            check_smaller(shapes[-1], left)
        except DistillUsageError as error:
            raise DistillUsageError("shrink.cut", n=n + 1, index=n, reason=str(error)) from error
        shapes.append(left)
    return shapes[1:]


def _check(
    recipe: ShrinkRecipe, shapes: list[LlamaConfig], run: Run, stage: Stage
) -> tuple[Texts, str]:
    """Refuse before the first cut what its training, or a later one, would refuse in hours.

    Returns:
        The texts, and the identity of who teaches.

    Raises:
        LucieError: a text, the teacher or what it has said cannot be read or does not fit,
            importance cannot be measured, a shape cannot be shared out, or a cache is short.
    """
    from distill.distillation import cache_for
    from distill.pruning.importance import check

    if any(not (run.folder / _pruned(n)).exists() for n in range(len(shapes))):
        # No cut changes the tokenizer or the window.
        check(Checkpoint.open(Path(recipe.model.start or "")), _calibration(recipe))
    told, length = recipe.teacher, recipe.data.length
    vocabulary = shapes[-1].vocab_size  # which no cut changes
    teacher = check_teacher(Path(told.model), recipe.tokenizer_path, vocabulary, length)
    texts = read_texts(recipe, stage("tokens"))
    trainings = [recipe.training(n, Path(recipe.model.start or "")) for n in range(len(shapes))]
    for training, config in zip(trainings, shapes, strict=True):
        check_shape(config, training, texts)
        check_inside(told, teacher, config)
    if told.cache:  # of which all read the same, some of them more
        longest = max(trainings, key=lambda each: each.schedule.steps)
        order = texts.order(longest)
        cache_for(longest, Path(told.cache), order, teacher, stage("verify"))
    return texts, teacher_identity(told, teacher)


def _check_trained(made: Path, training: Recipe) -> None:
    """Refuse a baseline of another recipe: baselines may change while all else stays."""
    work = training_run(made)
    if work.read(Recipe).sha256() != training.sha256():
        raise DistillError("shrink.other-baseline", path=str(made), work=str(work.folder))


def _check_cut(measured: Path, pruned: Path, model: Checkpoint, calibration: Calibration) -> None:
    """Refuse what was measured of another model, or on other texts, or cut from another model."""
    from distill.pruning.importance import check
    from distill.pruning.prune import cut_from
    from distill.pruning.scores import read_facts

    known = fingerprint(model)
    facts = {"path": str(pruned), "importance": str(measured), "model": str(model.path)}
    if pruned.exists() and cut_from(pruned) != known:
        raise DistillError("shrink.other-cut", **facts)
    if measured.exists():
        told = read_facts(measured)
        # Versions before did not note the texts.
        if told.teacher != known or (told.sha256 and told.sha256 != check(model, calibration)):
            raise DistillError("shrink.other-importance", **facts)


def _begin(recipe: ShrinkRecipe, run: Run) -> None:
    """Make the folder, or find it with the same recipe in it."""
    if run.recipe.exists():
        known = run.read(ShrinkRecipe)
        if known.sha256() != recipe.sha256() and any(run.folder.glob("1-*")):
            told = difference(known, recipe)
            raise DistillError("shrink.other-recipe", path=str(run.folder), difference=told)
    elif not run.fresh:
        raise DistillError("shrink.not-ours", path=str(run.folder))
    run.note(recipe)


@dataclass(frozen=True)
class _Work:
    """What is made on the way, where it is not there yet."""

    recipe: ShrinkRecipe
    folder: Path
    texts: Texts
    taught_by: str
    stage: Stage
    told: Told
    stopping: Callable[[], object]

    def cut(self, n: int, model: Path) -> Path:
        """What is left of a model after cut `n`."""
        from distill.pruning.importance import measure
        from distill.pruning.prune import prune
        from quantize.checkpoint.source import open_source

        recipe, stage = self.recipe, self.stage
        measured, pruned = self.folder / f"{n + 1}-importance", self.folder / _pruned(n)
        _check_cut(measured, pruned, Checkpoint.open(model), _calibration(recipe))
        if pruned.exists():
            return pruned
        source = open_source(model, stage("verify"))
        if not measured.exists():
            measure(source, measured, _calibration(recipe), stage)
        importance = Bundle.open(measured, verify=True)
        student = shape(source.checkpoint.config, _wanted(recipe, n))
        rules = Rules(recipe.cuts[n].layers_by, recipe.cuts[n].keep_ends)
        prune(source, importance, student, pruned, rules=rules, stage=stage)
        return pruned

    def distil(self, n: int, pruned: Path) -> Path:
        """What the teacher makes of it."""
        distilled = self.folder / f"{n + 1}-distilled"
        training = self.recipe.training(n, pruned)
        if distilled.exists():
            self._check_origin(distilled, training, pruned, self.taught_by)
        else:
            distil(
                training, distilled, training_run(distilled), self._stage("distilled"),
                told=self.told, stopping=self.stopping,
            )  # fmt: skip
        return distilled

    def baselines(self, n: int, pruned: Path) -> list[tuple[Baseline, Path]]:
        """What the text alone makes of it, and of a new model, as far as that is asked for."""
        found: list[tuple[Baseline, Path]] = []
        asked = self.recipe.baselines
        rates: dict[Baseline, float | None] = {}
        if asked.cross_entropy:
            rates["cross-entropy"] = None
        if asked.scratch:
            rates["scratch"] = asked.scratch_rate
        for role, rate in rates.items():
            made = self.folder / f"{n + 1}-{role}"
            training = baseline(role, self.recipe.training(n, pruned), rate)
            if made.exists():
                _check_trained(made, training)
                self._check_origin(made, training, pruned)
            else:
                train(
                    training, made, training_run(made), self._stage(role),
                    told=self.told, stopping=self.stopping,
                )  # fmt: skip
            found.append((role, made))
        return found

    def _check_origin(
        self, made: Path, training: Recipe, pruned: Path, taught_by: str = ""
    ) -> None:
        """Refuse what was trained on other texts, by another teacher or from another cut."""
        order, config = self.texts.order(training), Checkpoint.open(pruned).config
        was, now = origin_of(made), Origin.of(training, order, config, taught_by)
        if was and (other := was.other(now)):
            work = training_run(made).folder
            raise DistillError(f"shrink.{other}", path=str(made), work=str(work))

    def _stage(self, role: Role) -> Stage:
        """Says what is trained."""
        return lambda stage: self.stage(f"train-{role}" if stage == "train" else stage)


def _pruned(n: int) -> str:
    """The bundle that cut `n` makes."""
    return f"{n + 1}-pruned"


def _calibration(recipe: ShrinkRecipe) -> Calibration:
    from distill.pruning.importance import Calibration
    from quantize.measuring.built_in_texts import CALIBRATION
    from quantize.measuring.calibration import LabelledText

    told = recipe.importance
    return Calibration(
        texts=[LabelledText(each.language, Path(each.path)) for each in told.texts] or CALIBRATION,
        tokens=told.tokens,
        length=told.length,
        layer_loss=told.layer_loss,
        dtype=told.dtype,
        threads=recipe.parallel.threads,
    )


def _wanted(recipe: ShrinkRecipe, n: int) -> Wanted:
    cut = recipe.cuts[n]
    query, key = map(int, cut.heads.split("/")) if cut.heads else (0, 0)
    return Wanted(cut.layers, cut.width, cut.ffn, (query, key) if cut.heads else None, cut.tie)
