"""Distillation as a person asks for it: `pretrain`'s training, of another kind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from distill.errors import DistillError, DistillUsageError
from distill.recipe import DistillRecipe
from distill.teacher_check import check_teacher
from edge.bundle import Bundle
from edge.workshop import check_free
from pretrain.errors import PretrainError, PretrainUsageError
from pretrain.run import Run, Stage, Told, kind, train
from pretrain.shape import shape

__all__ = ["DISTILLATION", "distil"]

DISTILLATION = kind(
    "distill.train",
    "distill",
    DistillError,
    DistillUsageError,
    PretrainError,
    PretrainUsageError,
)


def distil(
    recipe: DistillRecipe,
    out: Path,
    run: Run,
    stage: Stage,
    *,
    told: Told = lambda *_: None,
    stopping: Callable[[], object] = lambda: None,
) -> Bundle:
    """Train a student, and make the bundle `out`; see `pretrain.run.train`.

    Raises:
        LucieError: something of it fails; what is trained so far is kept.
    """
    from pretrain.texts import read_texts

    check_free(out)
    texts = read_texts(recipe, stage("tokens"))
    vocabulary = shape(recipe, texts).vocab_size
    teacher, length = Path(recipe.teacher.model), recipe.data.length
    check_teacher(teacher, recipe.tokenizer_path, vocabulary, length)
    taught_by = [Path(path) for path in (recipe.teacher.model, recipe.teacher.cache) if path]
    return train(
        recipe,
        out,
        run,
        stage,
        told=told,
        stopping=stopping,
        of=DISTILLATION,
        more_parents=taught_by,
    )
