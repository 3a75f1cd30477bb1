"""Distillation as a task of the training loop: a student learns to say what a teacher says."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from distill.errors import DistillError
from distill.inside import Inside
from distill.losses.divergences import (
    Divergence,
    forward_kl,
    jensen_shannon,
    reverse_kl,
    skewed_forward_kl,
    skewed_reverse_kl,
)
from distill.recipe import DistillRecipe, Teaching
from distill.teacher_check import check_inside, check_teacher, teacher_identity
from distill.teaching.cache_bundle import open_cache
from distill.teaching.identity import model_sha256, tokenizer_sha256
from distill.teaching.online import Online
from distill.teaching.targets import Dense, Sampled, Teacher
from edge.checkpoint import Checkpoint
from edge.errors import CheckpointError
from pretrain.fused import fused_mean, mixed, next_token
from pretrain.materials import Materials
from pretrain.part import Part, Wanted
from pretrain.world import World
from quantize.checkpoint.complete import complete

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import LlamaForCausalLM

    from distill.teaching.reading import Cached
    from edge.progress import Progress
    from pretrain.order import Order

__all__ = ["Distillation", "cache_for", "divergence", "load_teacher", "make_task"]

_DIVERGENCES: dict[str, tuple[Callable[..., Tensor], str | None]] = {
    "forward-kl": (forward_kl, None),
    "reverse-kl": (reverse_kl, None),
    "skewed-forward-kl": (skewed_forward_kl, "alpha"),
    "skewed-reverse-kl": (skewed_reverse_kl, "alpha"),
    "jensen-shannon": (jensen_shannon, "beta"),
}


class Distillation:
    """What is learned from a teacher; a `Task`.

    Args:
        teacher: who says what is wanted; None: nobody asks.
        next_token: weight of the plain loss on the text itself.
        taught_by: identity of the teacher, or of what it has said.
        inside: what is asked besides predictions; None: nothing.
    """

    def __init__(
        self,
        teacher: Teacher | None,
        next_token: float = 0.0,
        taught_by: str = "",
        inside: Inside | None = None,
    ) -> None:
        self.taught_by = taught_by
        self._teacher = teacher
        self._next_token = next_token
        self._inside = inside
        self._head: tuple[Tensor, Divergence] | None = None

    def attach(self, part: Part) -> None:
        """Hear what is asked of the inside of the student."""
        if self._inside is not None:
            self._inside.attach(part)

    def wanted(self, indices: range, ids: Tensor) -> Wanted:
        """What the teacher says of these sequences: tensors that begin with B."""
        found: dict[str, Tensor] = {"labels": ids[:, 1:]}
        assert self._teacher is not None  # noqa: S101 - else nobody asks
        targets = self._teacher.targets(indices.start, ids[:, :-1])
        if isinstance(targets, Dense):
            # The matrix is the same for all, and is not cut into micro-batches.
            self._head = targets.head, targets.divergence
            return found | {"hidden": targets.hidden, **targets.attention}
        return found | {"ids": targets.ids, "weights": targets.weights}

    def objective(self, hidden: Tensor, head: Tensor, wanted: Wanted) -> Tensor:
        """The mean over tokens of what is to become small: divergence, text's share, the rest."""
        targets: Dense | Sampled
        if "hidden" in wanted and self._head is not None:
            targets = Dense(wanted["hidden"], *self._head)
        else:
            targets = Sampled(wanted["ids"], wanted["weights"])
        per_token = targets.per_token()
        if self._next_token:
            per_token = mixed(per_token, next_token(wanted["labels"]), self._next_token)
        loss = fused_mean(hidden, head, per_token)
        return loss if self._inside is None else loss + self._inside.loss(hidden, wanted)


def make_task(recipe: DistillRecipe, materials: Materials, world: World) -> Distillation:
    """The task of a recipe, in one process of its training.

    In a pipeline only the last part computes the loss, so only there is a teacher.

    Raises:
        LucieError: the teacher or what it has said cannot be read, or is of another tokenizer,
            text or vocabulary, or, where hidden states are compared, of another width.
    """
    told = recipe.teacher
    # Where processes are started by a cluster, nobody has done so before.
    teacher = check_teacher(
        Path(told.model), recipe.tokenizer_path, materials.config.vocab_size, recipe.data.length
    )
    check_inside(told, teacher, materials.config)
    taught_by = teacher_identity(told, teacher)
    if not world.last:
        return Distillation(None, taught_by=taught_by)
    if told.cache is None:
        model = load_teacher(Path(told.model))
        nn.Module.to(model, world.device)
        online = Online(model, divergence(told), attention=told.attention > 0)
        asked = told.hidden or told.attention
        inside = Inside(told, materials.config, teacher.config) if asked else None
        return Distillation(online, told.next_token, taught_by, inside)
    cached = cache_for(recipe, Path(told.cache), materials.order, teacher)
    return Distillation(cached, told.next_token, taught_by)


def cache_for(
    recipe: DistillRecipe,
    path: Path,
    order: Order,
    teacher: Checkpoint,
    progress: Progress | None = None,
) -> Cached:
    """What a teacher has said of all that a training reads.

    Args:
        recipe: the training.
        path: the cache.
        order: in which the training reads.
        teacher: who is to have said it.
        progress: called with bytes of the teacher read, where its hash is not known.

    Raises:
        LucieError: it cannot be read, is of another tokenizer, teacher, text or order, or would
            come to an end before the training does.
    """
    cached = open_cache(
        path,
        order,
        tokenizer=tokenizer_sha256(recipe.tokenizer_path),
        teacher=model_sha256(teacher, progress),
    )
    has, needed = len(cached), recipe.schedule.steps * recipe.batch.sequences
    if has < needed:
        raise DistillError("train.short-cache", path=str(path), sequences=has, needed=needed)
    return cached


def divergence(told: Teaching) -> Divergence:
    """What a recipe asks to make small."""
    function, mixed = _DIVERGENCES[told.divergence]
    settings = {"temperature": told.temperature}
    if mixed is not None and told.mix is not None:
        settings[mixed] = told.mix
    return partial(function, **settings)


def load_teacher(folder: Path, dtype: str = "auto") -> LlamaForCausalLM:
    """A model as it is on this computer, a teacher or who learns in a chat.

    Args:
        folder: the model's.
        dtype: to compute in; `auto`: the type of its file.

    Raises:
        CheckpointError: it is no Llama model in safetensors, not whole, or a number of it is none.
    """
    from transformers import LlamaForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # beside ours
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]  # what it notes is checked here
    # transformers would fill what is missing at random, and leave out what it does not know.
    complete(Checkpoint.open(folder))
    model: LlamaForCausalLM = LlamaForCausalLM.from_pretrained(
        folder, dtype=dtype, local_files_only=True, use_safetensors=True
    )
    for name, parameter in model.named_parameters():
        # In a row that no text reads, nothing that is computed would show it.
        if not all(torch.isfinite(end) for end in torch.aminmax(parameter.detach())):
            raise CheckpointError("checkpoint.not-finite", path=str(folder), tensor=name)
    return model
