"""Shrinking in several steps: measure, cut, recover; and again.

    RUN/
    ├── recipe.json
    ├── 1-importance/, 1-pruned/, 1-trained/, 1-trained-training/
    └── 2-importance/, …

Each of these is a bundle, there or not; so whatever ended a run, the next one begins with the
first that is missing, and a training goes on from its last checkpoint. The last training makes
the bundle that was asked for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from distill.errors import DistillError
from distill.pruning.choice import Rules
from distill.pruning.shape import Wanted, shape
from distill.recipe import ShrinkRecipe
from distill.training import distil
from edge.bundle import Bundle
from edge.checkpoint import Checkpoint
from edge.errors import StoreError
from edge.workshop import held
from pretrain.run import Run, Stage, Told

__all__ = ["shrink"]


def shrink(
    recipe: ShrinkRecipe,
    out: Path,
    run: Run,
    stage: Stage,
    *,
    told: Told = lambda *_: None,
    stopping: Callable[[], object] = lambda: None,
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
    if out.exists() or out.is_symlink():
        raise StoreError("bundle.exists", path=str(out))
    _check_shapes(recipe)
    with ExitStack() as stack:
        run.make(out)
        try:
            stack.enter_context(held(run.folder))
        except BlockingIOError as error:
            raise DistillError("shrink.busy", path=str(run.folder)) from error
        _begin(recipe, run)
        model = Path(recipe.model.start or "")
        for n in range(len(recipe.cuts)):
            pruned = _cut(recipe, n, model, run.folder, stage)
            last = n == len(recipe.cuts) - 1
            trained = out if last else run.folder / f"{n + 1}-trained"
            if not trained.exists():
                work = Run(run.folder / f"{n + 1}-trained-training")
                training = recipe.training(n, pruned)
                distil(training, trained, work, stage, told=told, stopping=stopping)
            model = trained
        return Bundle.open(out, verify=False)


def _check_shapes(recipe: ShrinkRecipe) -> None:
    """Refuse a recipe one of whose shapes is no slice of the one before.

    Raises:
        LucieError: so it is, or what is to be cut cannot be read.
    """
    config = Checkpoint.open(Path(recipe.model.start or "")).config
    for n in range(len(recipe.cuts)):
        config = shape(config, _wanted(recipe, n))


def _begin(recipe: ShrinkRecipe, run: Run) -> None:
    """Make the folder, or find it with the same recipe in it."""
    text = recipe.model_dump_json(by_alias=True, indent=1)
    if run.recipe.exists():
        known = run.read(ShrinkRecipe)
        if _identity(known) != _identity(recipe) and any(run.folder.glob("1-*")):
            raise DistillError("shrink.other-recipe", path=str(run.folder))
    elif any(run.folder.iterdir()):
        raise DistillError("shrink.not-ours", path=str(run.folder))
    draft = run.recipe.with_suffix(".tmp")
    draft.write_text(text, encoding="utf-8")
    draft.replace(run.recipe)


def _identity(recipe: ShrinkRecipe) -> str:
    cuts = recipe.model_dump_json(include={"cuts", "importance"})
    return hashlib.sha256((recipe.sha256() + cuts).encode()).hexdigest()


def _cut(recipe: ShrinkRecipe, n: int, model: Path, folder: Path, stage: Stage) -> Path:
    """What is left of a model after cut `n`."""
    from distill.pruning.importance import Calibration, measure
    from distill.pruning.prune import prune
    from quantize.checkpoint.source import open_source

    pruned = folder / f"{n + 1}-pruned"
    if pruned.exists():
        return pruned
    source = open_source(model, stage("verify"))
    measured = folder / f"{n + 1}-importance"
    if not measured.exists():
        told = recipe.importance
        threads = recipe.parallel.threads
        calibration = Calibration(tokens=told.tokens, length=told.length, threads=threads)
        measure(source, measured, calibration, stage)
    importance = Bundle.open(measured, verify=True)
    student = shape(source.checkpoint.config, _wanted(recipe, n))
    rules = Rules(ends=recipe.cuts[n].keep_ends)
    prune(source, importance, student, pruned, rules=rules, stage=stage)
    return pruned


def _wanted(recipe: ShrinkRecipe, n: int) -> Wanted:
    cut = recipe.cuts[n]
    query, key = map(int, cut.heads.split("/")) if cut.heads else (0, 0)
    return Wanted(cut.layers, cut.width, cut.ffn, (query, key) if cut.heads else None, cut.tie)
