"""Which smaller Llama models can be cut out of a larger one.

A *slice* keeps whole layers, some columns of the model's width, some neurons of each FFN
and some attention heads of its teacher, each of them as the teacher has it. So the size of
a head stays, and each query head that is kept reads the key/value head that it learned to
read: a student has at most the teacher's key/value heads, and at most as many queries for
each (whole groups may go, or each group may be thinned).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from distill.words import say
from edge.llama_config import LlamaConfig

__all__ = ["DIMENSIONS", "Reason", "is_slice", "kept", "resized"]

DIMENSIONS = (
    "num_hidden_layers",
    "hidden_size",
    "intermediate_size",
    "num_attention_heads",
    "num_key_value_heads",
)
"""What can be cut: layers, width, FFN, query heads, key/value heads."""
_ASKED = dict(zip(DIMENSIONS, ("layers", "width", "ffn", "heads", "heads"), strict=True))
"""How recipes and commands call them."""
_SAME = ("head_dim", "vocab_size", "rope", "rms_norm_eps", "max_position_embeddings")
"""What no slice changes: a head that lost dimensions would rotate others than it learned."""
_BY_NAME = {"head_dim": "head-size", "vocab_size": "vocabulary-differs"}


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a model is no slice: an entry of `plan.toml`, and one of `prune.toml`."""

    code: str
    facts: dict[str, Any]

    def __str__(self) -> str:
        return say(f"plan.{self.code}", **self.facts)


def resized(
    teacher: LlamaConfig,
    *,
    layers: int,
    width: int,
    ffn: int,
    heads: int,
    kv_heads: int,
    tied: bool | None = None,
) -> LlamaConfig:
    """The teacher's config at other sizes; everything else stays.

    Args:
        teacher: the model to cut.
        layers: how many layers are kept.
        width: numbers of the residual stream.
        ffn: neurons of each feed-forward block.
        heads: query heads.
        kv_heads: key/value heads.
        tied: whether one table is embedding and output matrix; None: as in the teacher.
    """
    sizes = dict(zip(DIMENSIONS, (layers, width, ffn, heads, kv_heads), strict=True))
    tie = teacher.tie_word_embeddings if tied is None else tied
    return teacher.model_copy(update={**sizes, "tie_word_embeddings": tie})


def is_slice(teacher: LlamaConfig, student: LlamaConfig) -> Reason | None:
    """None if `student` can be cut out of `teacher`; otherwise why it cannot."""
    return next(_faults(teacher, student), None)


def _faults(teacher: LlamaConfig, student: LlamaConfig) -> Iterator[Reason]:
    for name in _SAME:
        has, asked = getattr(teacher, name), getattr(student, name)
        if has != asked:
            facts = {"field": name, "teacher": has, "student": asked}
            yield Reason(_BY_NAME.get(name, "differs"), facts)
    for name in DIMENSIONS:
        has, asked = getattr(teacher, name), getattr(student, name)
        if asked > has:
            facts = {"asked": _ASKED[name], "field": name, "teacher": has, "student": asked}
            yield Reason("larger", facts)
    query, key = student.num_attention_heads, student.num_key_value_heads
    most = teacher.num_attention_heads // teacher.num_key_value_heads
    if query % key or query // key > most:
        yield Reason("groups", {"query": query, "key": key, "most": most})
    if student.hidden_size % query:  # transformers 5 refuses it, also where head_dim is given
        yield Reason("multiple", {"width": student.hidden_size, "query": query})


def kept(teacher: LlamaConfig, student: LlamaConfig) -> dict[str, float]:
    """What part of each of `DIMENSIONS`, and of the parameters, is left, 0 to 1."""
    parts = {name: getattr(student, name) / getattr(teacher, name) for name in DIMENSIONS}
    return parts | {"parameters": student.parameters / teacher.parameters}
