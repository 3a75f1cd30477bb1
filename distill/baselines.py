"""What a distillation is compared with: the same text without the teacher, and a new model."""

from __future__ import annotations

from typing import Literal

from distill.recipe import DistillRecipe
from pretrain.recipe import Model, Recipe

__all__ = ["BASELINES", "Baseline", "baseline"]

Baseline = Literal["cross-entropy", "scratch"]
BASELINES: tuple[Baseline, ...] = ("cross-entropy", "scratch")


def baseline(kind: Baseline, training: DistillRecipe, rate: float | None) -> Recipe:
    """A training on the text of a distillation, in its order, as long and by its schedule.

    Args:
        kind: `cross-entropy` begins with the weights that the distillation begins with, `scratch`
            with new ones in the same shape.
        training: the distillation.
        rate: the highest learning rate, where it is another one.
    """
    fields = {name: getattr(training, name) for name in Recipe.model_fields}
    if kind == "scratch":
        tokenizer = str(training.tokenizer_path)
        fields["model"] = Model(like=training.model.start, tokenizer=tokenizer)
    if rate is not None:
        fields["schedule"] = training.schedule.model_copy(update={"rate": rate})
    return Recipe.model_construct(**fields)
