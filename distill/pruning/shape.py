"""Of what shape the smaller model is to be, and whether it is a slice of the larger one."""

from __future__ import annotations

from dataclasses import dataclass

from distill.errors import DistillUsageError
from distill.slices import is_slice
from edge.llama_config import LlamaConfig
from edge.quantity import count_text

__all__ = ["Wanted", "check_slice", "check_smaller", "shape"]


@dataclass(frozen=True, slots=True)
class Wanted:
    """The sizes that are given; None: as the teacher's."""

    layers: int | None = None
    width: int | None = None
    ffn: int | None = None
    heads: tuple[int, int] | None = None
    """Query heads, and key-value heads."""
    tie: bool | None = None
    """Whether the embedding is to be the output matrix, too."""


def shape(teacher: LlamaConfig, wanted: Wanted) -> LlamaConfig:
    """The teacher's config with the sizes that are wanted.

    Raises:
        DistillUsageError: it is no slice of the teacher.
    """
    query, key = wanted.heads or (None, None)
    given = {
        "num_hidden_layers": wanted.layers,
        "hidden_size": wanted.width,
        "intermediate_size": wanted.ffn,
        "num_attention_heads": query,
        "num_key_value_heads": key,
        "tie_word_embeddings": wanted.tie,
    }
    told = {key: value for key, value in given.items() if value is not None}
    student = teacher.model_copy(update=told)
    check_slice(teacher, student)
    return student


def check_slice(teacher: LlamaConfig, student: LlamaConfig) -> None:
    """Whether `student` can be cut out of `teacher`.

    Raises:
        DistillUsageError: it is larger somewhere, its heads are of another kind, or more query
            heads share a key than in the teacher, which have not learned to; or transformers
            would not load it.
    """
    fault = is_slice(teacher, student)
    if fault is not None:
        raise DistillUsageError(f"prune.{fault.code}", **fault.facts)


def check_smaller(teacher: LlamaConfig, student: LlamaConfig) -> None:
    """Whether `student` can be cut out of `teacher`, and is less.

    Raises:
        DistillUsageError: it is no slice of the teacher, or has as many parameters.
    """
    check_slice(teacher, student)
    if student.parameters >= teacher.parameters:
        raise DistillUsageError(
            "prune.nothing",
            student=count_text(student.parameters),
            teacher=count_text(teacher.parameters),
        )
