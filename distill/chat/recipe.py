"""The recipe of a chat stage: one TOML file, every field of which the command line may set.

student = "my-student"           # folders in Hugging Face's layout
teacher = "my-teacher"
prompts = ["questions.jsonl"]
steps = 500
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import Field

from pretrain.recipe import BaseRecipe, Place, Positive, Schedule, below

__all__ = ["ChatRecipe"]

Count = Annotated[int, Field(gt=0, le=1 << 31)]


class ChatRecipe(BaseRecipe):
    """A chat stage."""

    watching: ClassVar[dict[str, Any]] = {"threads": True, "save_every_s": True}

    student: Place
    """Folder of the model that learns, with a chat template."""
    teacher: Place
    """Folder of the model that it learns from, with the same tokenizer."""
    prompts: tuple[Place, ...] = Field(min_length=1)
    """JSONL files; a line has `prompt`, a text, or `messages`, as OpenAI's API has them."""
    steps: Count
    """Steps of the training."""
    batch: Count = 8
    """Prompts that are answered in a step."""
    together: Count = 4
    """Answers whose activations are in memory at once; the most that are, where that is no
    divisor of `batch`."""
    rate: Positive = 1e-5
    """The highest learning rate; it is reached after a twentieth of the steps, and falls in a
    straight line to a tenth of itself."""
    answer: Annotated[int, Field(gt=0, le=1 << 20)] = 256
    """Most tokens of an answer."""
    temperature: Annotated[float, Field(gt=0, le=100)] = 1.0
    """By which logits are divided: those that answers are drawn from, and those compared."""
    beta: Annotated[float, Field(ge=0, le=1)] = 1.0
    """What is made small: 0 is forward KL, 1 is reverse KL, between them Jensen–Shannon."""
    seed: Annotated[int, Field(ge=0, lt=1 << 32)] = 0
    """Chooses the order of the prompts and what is drawn in answers."""
    threads: Annotated[int, Field(ge=0, le=1024)] = 0
    """Threads to compute with on a CPU; 0: one for each core."""
    save_every_s: Positive = 300.0
    """Seconds between checkpoints."""

    @property
    def schedule(self) -> Schedule:
        """Learning rate over steps."""
        return Schedule(steps=self.steps, rate=self.rate, kind="linear", warmup=0.05)

    @property
    def micro_batch(self) -> int:
        """Answers whose activations are in memory at once: a divisor of `batch`."""
        sizes = range(1, min(self.together, self.batch) + 1)
        return max(size for size in sizes if self.batch % size == 0)

    def below(self, folder: Path) -> Self:
        """The same with paths that are not relative to `folder` any more."""
        return self.model_copy(
            update={
                "student": below(folder, self.student),
                "teacher": below(folder, self.teacher),
                "prompts": tuple(str(below(folder, path)) for path in self.prompts),
            }
        )
