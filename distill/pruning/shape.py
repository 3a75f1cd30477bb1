"""Of what shape the smaller model is to be, and whether it is a slice of the larger one."""

from __future__ import annotations

from dataclasses import dataclass

from distill.errors import DistillUsageError
from edge.llama_config import LlamaConfig

__all__ = ["Wanted", "check_slice", "shape"]

_SMALLER = ("num_hidden_layers", "hidden_size", "intermediate_size", "num_attention_heads",
            "num_key_value_heads")  # fmt: skip
_SAME = ("head_dim", "vocab_size", "rope", "rms_norm_eps", "max_position_embeddings")
"""What no slice changes: a head that lost dimensions would rotate others than it learned."""


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
    for field in _SAME:
        has, asked = getattr(teacher, field), getattr(student, field)
        if has != asked:
            raise DistillUsageError("prune.differs", field=field, teacher=has, student=asked)
    for field in _SMALLER:
        has, asked = getattr(teacher, field), getattr(student, field)
        if asked > has:
            raise DistillUsageError("prune.larger", field=field, teacher=has, student=asked)
    query, key = student.num_attention_heads, student.num_key_value_heads
    most = teacher.num_attention_heads // teacher.num_key_value_heads
    if query % key or query // key > most:
        raise DistillUsageError("prune.groups", query=query, key=key, most=most)
    if student.hidden_size % query:  # transformers 5 refuses it, also where head_dim is given
        raise DistillUsageError("prune.multiple", width=student.hidden_size, query=query)
