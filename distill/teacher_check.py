"""Whether a teacher can teach a student."""

from __future__ import annotations

from pathlib import Path

from distill.errors import DistillError
from distill.teaching.identity import tokenizer_sha256
from edge.checkpoint import Checkpoint

__all__ = ["check_teacher"]


def check_teacher(path: Path, tokenizer: Path, vocabulary: int) -> None:
    """Refuse what cannot be.

    Args:
        path: the teacher's folder.
        tokenizer: folder, or `tokenizer.json`, of the student's.
        vocabulary: rows of the student's output matrix.

    Raises:
        LucieError: the teacher cannot be read; it has another tokenizer or another vocabulary.
    """
    teacher = Checkpoint.open(path)
    if teacher.config.vocab_size != vocabulary:
        raise DistillError(
            "train.vocabulary", path=str(path), has=teacher.config.vocab_size, wanted=vocabulary
        )
    if tokenizer_sha256(path) != tokenizer_sha256(tokenizer):
        raise DistillError("train.tokenizer", path=str(path), other=str(tokenizer))
