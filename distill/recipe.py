"""The recipe of a distillation: that of a training, and a teacher.

[model]
from = "pruned"

[teacher]
model = "smollm2"        # it speaks on the way; or `cache = "FOLDER"`, where it has spoken
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from distill.words import say
from pretrain.recipe import Place, Positive, Recipe, below

__all__ = ["Cut", "DistillRecipe", "Reporting", "ShrinkRecipe", "Teaching"]


Size = Annotated[int, Field(gt=0, le=1 << 31)]
Weight = Annotated[float, Field(ge=0, le=1000)]


def _several(items: int) -> int:
    if items == 1:  # which has no standard error
        raise ValueError(say("recipe.items"))
    return items


class _Part(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True
    )


class Teaching(_Part):
    """Who teaches, and how."""

    model: Place
    """Folder of the teacher, in Hugging Face's layout."""
    cache: Place | None = None
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
    hidden: Weight = 0.0
    """Weight of 1 − cos between the last hidden states of both (DistilBERT), which are of one
    width; added to the rest. Not with a cache."""
    attention: Weight = 0.0
    """Weight of how queries, keys and values of the last layer relate from token to token in both
    models, of whatever widths (MiniLMv2); added to the rest. Not with a cache, nor with
    `parallel.tensor`, which shares out the heads."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        asked = (self.divergence, self.temperature, self.hidden, self.attention)
        if self.cache is not None and asked != ("forward-kl", 1.0, 0.0, 0.0):
            raise ValueError(say("recipe.cache"))
        if self.mix is not None and self.divergence in ("forward-kl", "reverse-kl"):
            raise ValueError(say("recipe.mix", divergence=self.divergence))
        return self


class DistillRecipe(Recipe):
    """A distillation."""

    teacher: Teaching
    """Who teaches, and how."""

    @model_validator(mode="after")
    def _check_shared(self) -> Self:
        if self.teacher.attention and self.parallel.tensor > 1:
            raise ValueError(say("recipe.attention"))
        return self

    def below(self, folder: Path) -> Self:
        """The same with paths that are not relative to `folder` any more."""
        recipe = super().below(folder)
        model, cache = below(folder, self.teacher.model), below(folder, self.teacher.cache)
        teacher = self.teacher.model_copy(update={"model": model, "cache": cache})
        return recipe.model_copy(update={"teacher": teacher})


class Cut(_Part):
    """A step of shrinking: what is left after it, and how long it recovers."""

    layers: Size | None = None
    """Layers; as many as before, where it is not given, and so the following."""
    width: Size | None = None
    """Width of the residual stream."""
    ffn: Size | None = None
    """Width of the feed-forward network."""
    heads: Annotated[str, Field(pattern=r"^[1-9]\d*/[1-9]\d*$")] | None = None
    """Query heads and key-value heads, as 16/4."""
    tie: bool | None = None
    """Whether the embedding becomes the output matrix, too."""
    layers_by: Literal["distance", "influence", "loss"] = "distance"
    """What decides which layers go: the angle that the residual stream turns over them, block
    influence, or the loss without them, where `importance.layer_loss` measures it."""
    keep_ends: Annotated[int, Field(ge=0)] = 1
    """Layers that stay at either end."""
    steps: Size | None = None
    """Steps of training after it; `schedule.steps`, where it is not given."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        sizes = (self.layers, self.width, self.ffn, self.heads, self.tie)
        if all(size is None for size in sizes):
            raise ValueError(say("recipe.cut"))
        if self.layers is not None and self.layers < 2 * self.keep_ends:
            raise ValueError(say("recipe.ends", ends=self.keep_ends, layers=self.layers))
        return self


class CalibrationText(_Part):
    """A text on which importance is measured."""

    path: Place
    """A file of plain text."""
    language: Annotated[str, Field(pattern=r"^[a-z]{2,8}$")] = "text"
    """By which reports name it: two to eight lower-case letters."""


class Calibrating(_Part):
    """On what importance is measured before each cut, and how."""

    texts: tuple[CalibrationText, ...] = ()
    """What is read; our texts in five languages and code, where none is named."""
    tokens: Size = 65_536
    """Tokens in all, equally many of each text."""
    length: Annotated[int, Field(ge=2, le=1 << 20)] | None = None
    """Tokens of a piece; 512, or as many as the model reads, where it is not given."""
    layer_loss: bool = False
    """Whether the loss without each layer is measured, too."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """What is computed with."""


class Baselines(_Part):
    """With what each distillation is compared, on the same tokens; each costs a training."""

    cross_entropy: bool = False
    """Whether the pruned model is also trained on the text alone, without the teacher."""
    scratch: bool = False
    """Whether a new model of the same shape is trained on the text."""
    scratch_rate: Positive | None = None
    """Highest learning rate of the new one; `schedule.rate`, where it is not given."""


class Reporting(_Part):
    """How each model on the way is measured, beside its bits per byte on `evaluation_tokens`."""

    items: Annotated[int, Field(ge=0, le=500), AfterValidator(_several)] = 200
    """Items of each task that is answered right or wrong; 0: none is asked."""
    quantization: Literal["F16", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_0"] = "Q4_K_M"
    """In which its size and its speed are given."""
    context: Size = 2048
    """Tokens in the KV cache when its speed on boards is predicted; as many as the models read,
    where those are fewer."""


class ShrinkRecipe(DistillRecipe):
    """Several cuts, each followed by its distillation: prune, recover, prune, recover…

    `model.from` is what is cut first, most often the teacher itself.
    """

    watching: ClassVar[dict[str, Any]] = {
        **DistillRecipe.watching, "baselines": True, "report": True,
    }  # fmt: skip

    cuts: tuple[Cut, ...] = Field(min_length=1)
    """The steps, in order."""
    importance: Calibrating = Calibrating()
    """On what importance is measured before each cut, and how."""
    baselines: Baselines = Baselines()
    """With what each distillation is compared, on the same tokens."""
    report: Reporting = Reporting()
    """How each model on the way is measured, beside its bits per byte on `evaluation_tokens`."""

    @model_validator(mode="after")
    def _check_start(self) -> Self:
        if self.model.start is None:
            raise ValueError(say("recipe.start"))
        if not self.importance.layer_loss and any(cut.layers_by == "loss" for cut in self.cuts):
            raise ValueError(say("recipe.layer-loss"))
        return self

    def below(self, folder: Path) -> Self:
        """The same with paths that are not relative to `folder` any more."""
        recipe = super().below(folder)
        texts = tuple(
            each.model_copy(update={"path": below(folder, each.path)})
            for each in self.importance.texts
        )
        importance = self.importance.model_copy(update={"texts": texts})
        return recipe.model_copy(update={"importance": importance})

    def training(self, n: int, student: Path) -> DistillRecipe:
        """The distillation after cut `n`, counted from 0.

        Each reads the texts in another order, unless the teacher has spoken of one already.
        """
        cut = self.cuts[n]
        schedule = self.schedule.model_copy(update={"steps": cut.steps or self.schedule.steps})
        fields = {name: getattr(self, name) for name in DistillRecipe.model_fields}
        seed = self.seed if self.teacher.cache else self.seed + n
        model = self.model.model_copy(update={"start": str(student)})
        return DistillRecipe.model_construct(
            **fields | {"schedule": schedule, "seed": seed, "model": model}
        )
