"""How a student is made of its teacher: in which steps, from how many tokens, at what cost.

Nothing recovers from losing most of its weights at once: NVIDIA's guidelines for Minitron
call up to a third comfortable and more than half hard to recover, and cut, distil and cut
again. So each step keeps at least half of the parameters of the one before, in as few
steps as that allows, which are then about equal.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, log, log2

from distill.planning.search import slices
from distill.slices import DIMENSIONS, is_slice
from edge.llama_config import LlamaConfig

__all__ = ["CACHES", "Step", "cache_bytes_per_token", "schedule"]

_ON_THE_WAY = 20_000_000_000
_AT_THE_END = 100_000_000_000
"""Tokens of a step. Minitron took 94 billion for its 4B (arXiv 2407.14679), the guidelines
80 to 100 billion a stage, Sheared-LLaMA 50 for its 1.3B (2310.06694). Of what a 9B cut to 7B
had lost, most came back within 2.5 billion, so a shape on the way takes a fifth."""
_H100_FLOPS = 989e12
"""bfloat16 operations a second, dense (NVIDIA's data sheet, SXM)."""
_UTILIZATION = 0.4
_SAMPLES = 12
"""Tokens drawn from the teacher's prediction at each position; about as good as all of it
(Sparse Logit Sampling, arXiv 2503.16870)."""
CACHES = {"distillkit_top_128": 300, "distillkit_top_50": 114}
"""Bytes of a token in DistillKit's formats, for contrast: the first 128 logits, 16 of them
exact, and the first 50."""


@dataclass(frozen=True, slots=True)
class Step:
    """One cut, and the distillation after it."""

    config: LlamaConfig
    """What it makes."""
    kept: float
    """Part of the parameters of the step before, 0 to 1."""
    tokens: int
    """To distil with."""
    student_flops: float
    """6 operations a parameter and token, forwards and backwards."""
    teacher_flops: float
    """2 operations a parameter and token: the teacher only predicts. With a cache of its
    predictions they are spent once for all students and steps that read the same tokens."""

    @property
    def h100_hours(self) -> float:
        """With the teacher online, at 40 % of what the processor could do."""
        return (self.student_flops + self.teacher_flops) / (_H100_FLOPS * _UTILIZATION) / 3600


def schedule(teacher: LlamaConfig, student: LlamaConfig) -> tuple[Step, ...]:
    """The steps from `teacher` to `student`, a slice of it, which the last one makes.

    Tables are tied in the first step, so that all of the training heals it.
    """
    count = max(1, ceil(log2(teacher.parameters / student.parameters) - 1e-9))
    path = _path(teacher, student, count) or _path(teacher, student, count + 1) or [student]
    steps, before = [], teacher
    for config in path:
        tokens = _AT_THE_END if config == student else _ON_THE_WAY
        steps.append(
            Step(
                config,
                config.parameters / before.parameters,
                tokens,
                6.0 * config.parameters * tokens,
                2.0 * teacher.parameters * tokens,
            )
        )
        before = config
    return tuple(steps)


def _path(teacher: LlamaConfig, student: LlamaConfig, count: int) -> list[LlamaConfig] | None:
    """`count` slices, each of the one before; None where they cannot keep half each time."""
    made: list[LlamaConfig] = []
    before = teacher
    for n in range(1, count):
        choices = [
            one
            for one in slices(teacher, student.tie_word_embeddings)
            if _between(before, one, student) and 2 * one.parameters >= before.parameters
        ]
        if not choices:
            return None
        share = n / count
        before = min(choices, key=lambda one: _distance(teacher, one, student, share))
        made.append(before)
    made.append(student)
    return made if count == 1 or 2 * student.parameters >= before.parameters else None


def _between(before: LlamaConfig, one: LlamaConfig, student: LlamaConfig) -> bool:
    """Whether `one` is a smaller slice of the step before, and the student one of it."""
    smaller = student.parameters < one.parameters < before.parameters
    return smaller and is_slice(before, one) is None and is_slice(one, student) is None


def _distance(teacher: LlamaConfig, one: LlamaConfig, student: LlamaConfig, share: float) -> float:
    """How far `one` is from the way's point at `share`, in parameters first, then in shape."""

    def off(first: int, now: int, last: int) -> float:
        return abs(log(now / first) - share * log(last / first))

    size = off(teacher.parameters, one.parameters, student.parameters)
    shape = sum(
        off(getattr(teacher, name), getattr(one, name), getattr(student, name))
        for name in DIMENSIONS
    )
    return 4 * size + shape


def cache_bytes_per_token(config: LlamaConfig) -> int:
    """Most bytes of a token's sampled logits: for each sample the id and how often it was drawn.

    Ids of a vocabulary up to 65,536 take 2 bytes, others 3, counts and their number 1; sorting
    and packing make less of it.
    """
    return 1 + _SAMPLES * (1 + (2 if config.vocab_size <= 1 << 16 else 3))
