"""The recipe of a training: one TOML file, every field of which the command line may set.

    [model]                      # a new model; or `from = "FOLDER"` to go on with one
    hidden_size = 256
    …

    [data]
    length = 512
    [[data.mixture]]
    path = "my-corpus"
    languages = ["fr"]
    weight = 2.0

    [batch]
    sequences = 32

    [schedule]
    steps = 1000
    rate = 1e-3

Unknown keys are refused. What is written beside the weights is the whole of it, defaults too.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from pretrain.words import say

__all__ = [
    "BaseRecipe",
    "Batch",
    "Data",
    "Ingredient",
    "Model",
    "Optimizer",
    "Parallel",
    "Place",
    "Positive",
    "Recipe",
    "Schedule",
    "below",
]

Count = Annotated[int, Field(gt=0, le=1 << 40)]
Steps = Annotated[int, Field(gt=0, le=1 << 31)]
Sequences = Annotated[int, Field(gt=0, le=1 << 20)]
"""Gradients of micro-batches are summed in float32, to which one part in 2²⁴ adds nothing. With
the most steps there are less than 2⁵³ sequences, up to which `order.place` computes exactly."""
_MOST_TOKENS = 1 << 28
"""Of a step: four times what DeepSeek-V3 reads in one (15,360 sequences of 4,096 tokens:
2412.19437, section 4.2), and 2 GiB of them in memory, should one process read them all."""
Share = Annotated[float, Field(ge=0, le=1)]
Decay = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0, le=1e30)]
"""Within what a float32 holds."""
Place = Annotated[str, Field(min_length=1)]
"""A path, relative to the recipe's folder; that folder itself is `.`."""


class _Part(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True
    )


class BaseRecipe(_Part):
    """What a long run is told by a TOML file; its fields are those of its kind."""

    watching: ClassVar[dict[str, Any]] = {}
    """Fields by which what is learned does not change, as pydantic excludes them."""

    def below(self, folder: Path) -> Self:
        """The same with paths that are not relative to `folder` any more."""
        raise NotImplementedError

    def sha256(self) -> str:
        """Identity of what is learned: of all but how the work is shared and watched."""
        return hashlib.sha256(self.model_dump_json(exclude=self.watching).encode()).hexdigest()


class Model(_Part):
    """What is trained: a folder's weights, or new ones in the shape that is given."""

    start: Place | None = Field(default=None, alias="from")
    """Folder of the model to go on with, in Hugging Face's layout; its shape is kept."""
    like: Place | None = None
    """Folder of a model whose shape a new one takes, all of it, instead of the fields below."""
    tokenizer: Place | None = None
    """Folder, or `tokenizer.json`, of the tokenizer; that of `from`, where none is named."""
    hidden_size: Count | None = None
    """Width of the residual stream."""
    intermediate_size: Count | None = None
    """Width of the feed-forward network."""
    num_hidden_layers: Count | None = None
    """Layers."""
    num_attention_heads: Count | None = None
    """Query heads."""
    num_key_value_heads: Count | None = None
    """Key and value heads; as many as query heads, where it is not given."""
    head_dim: Count | None = None
    """Width of a head; hidden_size / num_attention_heads, where it is not given."""
    vocab_size: Count | None = None
    """Rows of the embedding; as many as the tokenizer has tokens, where it is not given."""
    tie_word_embeddings: bool | None = None
    """Whether the embedding is the output matrix, too; true where it is not given."""
    rope_theta: Positive | None = None
    """Base of the rotary frequencies; 10,000 where it is not given."""
    max_position_embeddings: Count | None = None
    """Longest text that it is made for; `data.length` where it is not given."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        given = self.shape()
        like = {"like"} if self.like is not None else set()
        if self.start is not None and (given or like):
            fields = ", ".join([*like, *given])
            raise ValueError(say("recipe.from-has-shape", fields=fields))
        if like and given:
            raise ValueError(say("recipe.like-has-shape", fields=", ".join(given)))
        wanted = {"hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"}
        missing = set() if like else wanted - given.keys()
        if self.start is None and (missing or not self.tokenizer):
            fields = ", ".join(sorted(missing | (set() if self.tokenizer else {"tokenizer"})))
            raise ValueError(say("recipe.new-model", fields=fields))
        return self

    def shape(self) -> dict[str, Any]:
        """The fields of a shape that were given."""
        fields = self.model_dump(exclude={"start", "like", "tokenizer"}, exclude_none=True)
        return {name: value for name, value in fields.items() if value is not None}


class Ingredient(_Part):
    """One part of the mixture."""

    path: Place
    """A corpus bundle, a Parquet or JSONL file, or a folder of such or of texts."""
    languages: tuple[str, ...] = ()
    """Only documents in these (ISO 639-1, or `code`); all, where none is named."""
    sources: tuple[str, ...] = ()
    """Only documents of these sources; all, where none is named."""
    weight: Positive | None = None
    """Share of the training's tokens, as against the weights of the others; none gives each
    its size, so that all is read equally often."""


class Data(_Part):
    """What is read."""

    mixture: tuple[Ingredient, ...] = Field(min_length=1)
    """The parts of the mixture."""
    length: Annotated[int, Field(ge=8, le=1 << 20)] = 512
    """Tokens of a sequence, T; documents are laid end to end and cut into such."""
    separator: str | None = None
    """Token behind each document; the tokenizer's end of text, where none is named."""
    evaluation: tuple[Place, ...] = ()
    """Where held-out text is read: what is held out of a corpus or of a part of the mixture, all
    of other texts; what is held out of the mixture, where none is named."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        given = {ingredient.weight is not None for ingredient in self.mixture}
        if len(given) > 1:
            raise ValueError(say("recipe.weights"))
        return self


class Batch(_Part):
    """How much is read in a step."""

    sequences: Sequences = 32
    """Sequences of a step, B, over all processes."""
    together: Sequences = 4
    """Sequences whose activations are in memory at once in a process (micro-batch); the most
    that are, where a pipeline or a rest wants fewer."""


class Optimizer(_Part):
    """AdamW (Loshchilov and Hutter, 1711.05101), as Llama models are trained."""

    betas: tuple[Decay, Decay] = (0.9, 0.95)
    """Decay of the two moments."""
    eps: Positive = 1e-8
    """Added to the root of the second."""
    weight_decay: Share = 0.1
    """Of matrices; norms do not decay."""
    clip: Positive = 1.0
    """To which the norm of the gradients is cut."""


class Schedule(_Part):
    """Learning rate over steps."""

    steps: Steps
    """Steps of the training."""
    rate: Positive = 3e-4
    """The highest learning rate."""
    kind: Literal["cosine", "wsd", "linear"] = "cosine"
    """`cosine` to `last`; `wsd` (warm-up, stable, decay: 2404.06395) linear over its last
    `decay`; `linear` to `last` all the way."""
    warmup: Share = 0.01
    """Part of the steps in which the rate rises from 0."""
    decay: Share = 0.2
    """Part of the steps in which `wsd` falls."""
    last: Share = 0.1
    """The last rate, as a part of the highest."""


class Parallel(_Part):
    """How processes share the work; their product is how many there are."""

    data: Annotated[int, Field(gt=0, le=4096)] = 1
    """Processes that read different sequences and hold a part of the weights each (FSDP2)."""
    tensor: Annotated[int, Field(gt=0, le=64)] = 1
    """Processes that hold a part of each matrix."""
    pipeline: Annotated[int, Field(gt=0, le=256)] = 1
    """Processes that hold some of the layers each (1F1B)."""
    threads: Annotated[int, Field(ge=0, le=1024)] = 0
    """Threads of a process on a CPU; 0: the cores, shared out."""

    @property
    def processes(self) -> int:
        """How many there are."""
        return self.data * self.tensor * self.pipeline


class Recipe(BaseRecipe):
    """A training."""

    watching: ClassVar[dict[str, Any]] = {
        "parallel": True, "batch": {"together"}, "recompute": True,
        "save_every_s": True, "evaluate_every": True, "evaluation_tokens": True,
    }  # fmt: skip

    seed: Annotated[int, Field(ge=0, lt=1 << 32)] = 0
    """Chooses the order of the texts and the first weights."""
    model: Model
    """What is trained."""
    data: Data
    """What is read."""
    batch: Batch = Batch()
    """How much is read in a step."""
    optimizer: Optimizer = Optimizer()
    """How weights follow gradients."""
    schedule: Schedule
    """Learning rate over steps."""
    parallel: Parallel = Parallel()
    """How processes share the work."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """In which matrices are multiplied; weights and moments are float32."""
    recompute: bool = False
    """Whether activations are computed again for the gradients instead of kept."""
    save_every_s: Positive = 300.0
    """Seconds between checkpoints."""
    evaluate_every: Annotated[int, Field(ge=0)] = 100
    """Steps between measurements on held-out text; 0: only at the end."""
    evaluation_tokens: Count = 20_000
    """Tokens of each language that such a measurement reads."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.batch.sequences % self.parallel.data:
            shared = {"sequences": self.batch.sequences, "data": self.parallel.data}
            raise ValueError(say("recipe.sequences", **shared))
        if self.batch.sequences * self.data.length > _MOST_TOKENS:
            step = {"sequences": self.batch.sequences, "length": self.data.length}
            raise ValueError(say("recipe.tokens", most=_MOST_TOKENS, **step))
        return self

    @property
    def tokenizer_path(self) -> Path:
        """Folder, or `tokenizer.json`, of the tokenizer."""
        return Path(self.model.tokenizer or self.model.start or "")

    def below(self, folder: Path) -> Self:
        """The same with paths that are not relative to `folder` any more."""
        model, data = self.model, self.data
        mixture = [
            each.model_copy(update={"path": below(folder, each.path)}) for each in data.mixture
        ]
        paths = {
            "start": below(folder, model.start),
            "like": below(folder, model.like),
            "tokenizer": below(folder, model.tokenizer),
        }
        evaluation = tuple(below(folder, each) for each in data.evaluation)
        return self.model_copy(
            update={
                "model": model.model_copy(update=paths),
                "data": data.model_copy(
                    update={"mixture": tuple(mixture), "evaluation": evaluation}
                ),
            }
        )


def below(folder: Path, path: str | None) -> str | None:
    """A path of a recipe that stands in `folder`."""
    return None if path is None else str(folder / Path(path).expanduser())
