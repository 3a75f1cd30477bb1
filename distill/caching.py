"""What a teacher says of a recipe's texts, written down for its students."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
from pydantic import ValidationError
from torch import nn

from distill.distillation import load_teacher
from distill.recipe import DistillRecipe, Teaching
from distill.teacher_check import check_teacher
from distill.teaching.cache_bundle import check_place, make_cache
from distill.teaching.cache_format import Identity
from distill.teaching.identity import model_sha256, tokenizer_sha256
from distill.teaching.online import Online
from distill.teaching.writing import Plan
from edge.bundle import Bundle
from edge.manifest import MANIFEST
from edge.progress import Progress
from edge.torch_start import start
from pretrain.recipe_file import wrong
from pretrain.shape import shape
from pretrain.texts import read_texts

if TYPE_CHECKING:
    from distill.teaching.cache_format import Method

__all__ = ["cache"]

_SHARDS = 16
"""At least so many, as they are the steps in which an interrupted cache goes on."""


def cache(
    recipe: DistillRecipe,
    out: Path,
    stage: Callable[[str], Progress],
    *,
    words: int,
    method: str,
    seed: int,
) -> Bundle:
    """Make the bundle `out` of what a recipe's teacher says of all that its training reads.

    What was interrupted goes on at the shard that was being written.

    Args:
        recipe: the distillation.
        out: the folder to make.
        stage: told what is being done.
        words: drawn for each token, or the likeliest.
        method: `stratified`, `independent` or `top-k`.
        seed: of the draws.

    Raises:
        LucieError: something of it fails; shards that are complete are kept.
    """
    check_place(out, stage)
    _check_teaching(recipe.teacher, out)
    texts = read_texts(recipe, stage("tokens"))
    path = Path(recipe.teacher.model)
    vocabulary = shape(recipe, texts).vocab_size
    checkpoint = check_teacher(path, recipe.tokenizer_path, vocabulary, recipe.data.length)
    order = texts.order(recipe)
    identity = Identity(
        data=order.identity,
        tokenizer=tokenizer_sha256(recipe.tokenizer_path),
        teacher=model_sha256(checkpoint, stage("verify")),
        vocabulary=checkpoint.config.vocab_size,
        length=recipe.data.length,
        method=cast("Method", method),
        words=words,
        seed=seed,
    )
    sequences = recipe.schedule.steps * recipe.batch.sequences
    whole = Plan.of(identity, sequences)
    plan = Plan.of(identity, sequences, min(whole.per_shard, -(-sequences // _SHARDS)))
    parents = [path, *(Path(part.path) for part in recipe.data.mixture)]
    known = tuple(
        Bundle.open(p, verify=False) if (p / MANIFEST).is_file() else None for p in parents
    )
    start(torch, recipe.parallel.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    teacher = load_teacher(path)
    nn.Module.to(teacher, device)
    bundle = make_cache(order, plan, Online(teacher), out, stage, parents=known, device=device)
    assert bundle is not None  # noqa: S101 - nobody stops it but by Ctrl-C, which is raised
    return bundle


def _check_teaching(told: Teaching, out: Path) -> None:
    """Refuse in advance what the training with this cache would refuse.

    Raises:
        PretrainUsageError: a cache cannot teach so.
    """
    try:
        Teaching.model_validate(told.model_dump() | {"cache": str(out)})
    except ValidationError as error:
        raise wrong(error, "teacher") from None
