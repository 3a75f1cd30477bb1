"""The recipe of a distillation: that of a training, and a teacher.

[model]
from = "pruned"

[teacher]
model = "smollm2"        # it speaks on the way; or `cache = "FOLDER"`, where it has spoken
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from pretrain.recipe import Recipe, below

__all__ = ["DIVERGENCES", "DistillRecipe", "Teaching"]

DIVERGENCES = (
    "forward-kl",
    "reverse-kl",
    "skewed-forward-kl",
    "skewed-reverse-kl",
    "jensen-shannon",
)


class Teaching(BaseModel):
    """Who teaches, and how."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True
    )

    model: str
    """Folder of the teacher, in Hugging Face's layout."""
    cache: str | None = None
    """What the teacher has said of this text, made by `lucie distill cache`; where none is named,
    the teacher reads along."""
    divergence: Literal[
        "forward-kl", "reverse-kl", "skewed-forward-kl", "skewed-reverse-kl", "jensen-shannon"
    ] = "forward-kl"
    """What is made small; a cache knows forward KL alone."""
    temperature: Annotated[float, Field(gt=0, le=100)] = 1.0
    """By which the logits of both are divided."""
    mix: Annotated[float, Field(gt=0, lt=1)] | None = None
    """α of skewed divergences (0.1 where it is not given), β of Jensen–Shannon (0.5)."""
    next_token: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Weight of the plain loss on the text itself; the teacher has the rest."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.cache is not None and (self.divergence != "forward-kl" or self.temperature != 1.0):
            raise ValueError("a cache knows forward-kl at temperature 1 alone")
        if self.mix is not None and self.divergence in ("forward-kl", "reverse-kl"):
            raise ValueError(f"{self.divergence} has no mix")
        return self


class DistillRecipe(Recipe):
    """A distillation."""

    teacher: Teaching
    """Who teaches, and how."""

    def below(self, folder: Path) -> Self:
        """The same with paths that are not relative to `folder` any more."""
        recipe = super().below(folder)
        model, cache = below(folder, self.teacher.model), below(folder, self.teacher.cache)
        teacher = self.teacher.model_copy(update={"model": model, "cache": cache})
        return recipe.model_copy(update={"teacher": teacher})
