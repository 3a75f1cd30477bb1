"""Whether a teacher can teach a student, and who it is."""

from __future__ import annotations

from pathlib import Path

from distill.errors import DistillError
from distill.recipe import Teaching
from distill.teaching.identity import tokenizer_sha256
from edge.checkpoint import Checkpoint
from edge.llama_config import LlamaConfig
from pretrain.identity import fingerprint
from quantize.checkpoint.complete import complete

__all__ = ["check_inside", "check_teacher", "teacher_identity"]


def check_teacher(path: Path, tokenizer: Path, vocabulary: int, length: int) -> Checkpoint:
    """Refuse what cannot be.

    Args:
        path: the teacher's folder.
        tokenizer: folder, or `tokenizer.json`, of the student's.
        vocabulary: rows of the student's output matrix.
        length: tokens of the longest text that it is to read.

    Returns:
        The teacher.

    Raises:
        LucieError: the teacher cannot be read, or lacks something; it has another tokenizer or
            another vocabulary, or is made for shorter texts.
    """
    teacher = Checkpoint.open(path)
    if teacher.config.vocab_size != vocabulary:
        raise DistillError(
            "train.vocabulary", path=str(path), has=teacher.config.vocab_size, wanted=vocabulary
        )
    if tokenizer_sha256(path) != tokenizer_sha256(tokenizer):
        raise DistillError("train.tokenizer", path=str(path), other=str(tokenizer))
    window = teacher.config.max_position_embeddings
    if length > window:
        raise DistillError("train.window", path=str(path), length=length, window=window)
    complete(teacher)
    return teacher


def teacher_identity(told: Teaching, teacher: Checkpoint) -> str:
    """Identity of who teaches: of the teacher, or of what it has said.

    Raises:
        LucieError: it cannot be read.
    """
    if told.cache is None:
        return fingerprint(teacher)
    from distill.teaching.cache_bundle import cache_sha256  # which loads torch

    return cache_sha256(Path(told.cache))


def check_inside(told: Teaching, teacher: Checkpoint, student: LlamaConfig) -> None:
    """Refuse what cannot be compared inside of the two.

    Args:
        told: what is asked of the student.
        teacher: who asks.
        student: its shape.

    Raises:
        DistillError: hidden states are to be compared, and are not of one width.
    """
    has, wanted = student.hidden_size, teacher.config.hidden_size
    if told.hidden and has != wanted:
        path = str(teacher.path)
        raise DistillError("train.hidden", path=path, width=wanted, student=has)
