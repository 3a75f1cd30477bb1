"""Distillation as a person asks for it: `pretrain`'s training, of another kind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from distill.errors import DistillError, DistillUsageError
from distill.recipe import DistillRecipe
from distill.teacher_check import check_inside, check_teacher, teacher_identity
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
    student = shape(recipe, texts)
    teaching, length = recipe.teacher, recipe.data.length
    path = Path(teaching.model)
    teacher = check_teacher(path, recipe.tokenizer_path, student.vocab_size, length)
    check_inside(teaching, teacher, student)
    return train(
        recipe,
        out,
        run,
        stage,
        told=told,
        stopping=stopping,
        of=DISTILLATION,
        more_parents=[Path(path) for path in (teaching.model, teaching.cache) if path],
        taught_by=teacher_identity(teaching, teacher),
    )
