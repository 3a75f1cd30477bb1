"""The plan: which students of a teacher are as large, or as fast, as was asked for."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from distill.errors import DistillError, DistillUsageError
from distill.planning.boards import HERE, Board, boards
from distill.planning.schedule import Step, schedule
from distill.planning.search import Found, choose, published, slices
from distill.planning.speed import predict
from distill.planning.storage import memory_bytes
from distill.planning.target import OnBoard, Target
from edge.llama_config import LlamaConfig
from edge.plan import budget
from edge.quantity import decimal_text

__all__ = ["Plan", "Student", "make_plan"]

_SHARE = 0.8
"""Of the largest model that a board runs fast enough, what the other students have at least."""
_USUAL_BOARD = "pi5"


@dataclass(frozen=True, slots=True)
class Student:
    """A candidate."""

    letter: str
    """By which tables and picture name it."""
    found: Found
    steps: tuple[Step, ...]
    """From the teacher to it; empty: it cannot be cut out of it."""

    @property
    def config(self) -> LlamaConfig:
        """Its shape."""
        return self.found.config


@dataclass(frozen=True, slots=True)
class Plan:
    """What was asked, and the candidates."""

    name: str
    """Of the teacher."""
    teacher: LlamaConfig
    target: Target
    context: int
    """Tokens of the KV cache at which speeds are predicted."""
    quantization: str
    """In which a target on a board is to be reached."""
    tied: bool
    """Whether students have one table for embedding and output."""
    boards: tuple[Board, ...]
    """On which speeds are predicted."""
    board: Board
    """The one of them that was asked for."""
    students: tuple[Student, ...]
    """Slices, the best quality to expect first, and then published shapes to compare with."""
    lack: DistillError | None = None
    """Why no slice is as the target says, where a shape was asked for besides; None: some are."""


def make_plan(
    name: str,
    teacher: LlamaConfig,
    target: Target,
    *,
    asked: LlamaConfig | None = None,
    context: int,
    quantization: str,
    tied: bool = True,
    here: Board | None = None,
) -> Plan:
    """Find the students.

    Args:
        name: the teacher's.
        teacher: what is to be cut.
        target: what is asked for.
        asked: a slice that is to be among the students, whatever its size.
        context: tokens of the KV cache at which speeds are predicted.
        quantization: one of `distill.planning.storage.QUANTIZATIONS`.
        tied: whether students have one table for embedding and output.
        here: this machine, if it was measured; a target on it needs it.

    Raises:
        DistillUsageError: the context is longer than the teacher's.
        DistillError: no student is as the target says, and none was asked for by its sizes.
    """
    if context > teacher.max_position_embeddings:
        raise DistillUsageError(
            "plan.context-too-long", context=context, most=teacher.max_position_embeddings
        )
    known = boards() | ({HERE: here} if here else {})
    wanted = target.board if isinstance(target, OnBoard) else HERE if here else _USUAL_BOARD
    board = known[wanted]
    students = list(slices(teacher, tied))
    fits = partial(_fits, target=target, context=context, quantization=quantization, board=board)
    right = [one for one in students if fits(one)]
    lack = None if right else _nothing(students, teacher, target, quantization, board, context)
    if lack and asked is None:
        raise lack
    aim = None
    if isinstance(target, OnBoard):
        largest = max((one.parameters for one in right), default=0)
        right = [one for one in right if one.parameters >= _SHARE * largest]
    else:
        aim = target.aim
    found = choose(right, teacher, aim, quantization, context, asked)
    least = min((one.parameters for one in right), default=0)
    compared = [one for one in published(teacher, tied, fits) if one.config.parameters >= least]
    return Plan(
        name, teacher, target, context, quantization, tied, tuple(known.values()), board,
        _lettered([*found, *compared], teacher), lack,
    )  # fmt: skip


def _lettered(found: Sequence[Found], teacher: LlamaConfig) -> tuple[Student, ...]:
    return tuple(
        Student(letter, one, () if one.fault else schedule(teacher, one.config))
        for letter, one in zip(string.ascii_uppercase, found, strict=False)
    )


def _fits(one: LlamaConfig, target: Target, context: int, quantization: str, board: Board) -> bool:
    if not isinstance(target, OnBoard):
        return target.least <= one.parameters <= target.most
    if predict(one, quantization, board, context).decode < target.tokens_per_s:
        return False
    device = board.device(target.memory_gb or max(board.memory_gb))
    return memory_bytes(one, quantization, context, device) <= budget(device)


def _nothing(
    students: Sequence[LlamaConfig],
    teacher: LlamaConfig,
    target: Target,
    quantization: str,
    board: Board,
    context: int,
) -> DistillError:
    """Nothing fits: how near the teacher's slices come."""
    if not students:
        return DistillError("plan.no-slices", parameters=teacher.parameters)
    sizes = [one.parameters for one in students]
    if not isinstance(target, OnBoard):
        return DistillError(
            "plan.no-such-size", least=min(sizes), most=max(sizes), teacher=teacher.parameters
        )
    fastest = max(predict(one, quantization, board, context).decode for one in students)
    if fastest < target.tokens_per_s:
        return DistillError(
            "plan.too-fast",
            board=board.title,
            fastest=decimal_text(fastest, 1),
            least=min(sizes),
        )
    device = board.device(target.memory_gb or max(board.memory_gb))
    needed = min(memory_bytes(one, quantization, context, device) for one in students)
    return DistillError(
        "plan.no-memory", available=round(budget(device) / 1e6), needed=round(needed / 1e6)
    )
