"""Texts to calibrate on or to measure with, cut into chunks, as many of each.

A text is named by its language, as `fr=FILE`: what matters to one language is not what
matters to another, and a matrix or a figure made of English alone says nothing of French.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from quantize.errors import QuantizeError, QuantizeUsageError

__all__ = ["Chunk", "LabelledText", "balanced", "digest", "parse"]

_UNNAMED = "-"
_MOST_BYTES = 256 << 20


@dataclass(frozen=True, slots=True)
class LabelledText:
    """A file of UTF-8 text and its language, or `code`."""

    label: str
    path: Path


@dataclass(frozen=True, slots=True)
class Chunk:
    """Tokens that are read together."""

    label: str
    ids: array[int]


def parse(given: Sequence[str]) -> list[LabelledText]:
    """`fr=FILE` or `FILE`, as they stand on a command line."""
    if not given:
        raise QuantizeUsageError("calibration.none")
    texts = []
    for each in given:
        label, mark, path = each.partition("=")
        known = mark and label.isalpha() and len(label) <= 8
        file = path if known else each
        if not file:
            raise QuantizeUsageError("calibration.none")
        texts.append(LabelledText(label if known else _UNNAMED, Path(file)))
    return texts


def balanced(
    texts: Sequence[LabelledText],
    tokens: Callable[[str], array[int]],
    size: int,
    most: int | None = None,
) -> list[Chunk]:
    """Chunks of `size` tokens, in turn of each text, and equally many of each.

    Args:
        texts: where they come from.
        tokens: encodes a text.
        size: tokens of a chunk.
        most: chunks in all; None: as many as the shortest text gives of each.

    Raises:
        QuantizeError: a text cannot be read, or has less than one chunk.
    """
    cut = [_chunks(text, tokens, size) for text in texts]
    each = min(map(len, cut))
    if most is not None:
        each = min(each, max(1, most // len(cut)))
    return [chunks[n] for n in range(each) for chunks in cut]


def digest(chunks: Sequence[Chunk]) -> str:
    """SHA-256 of the tokens, by which unfinished work is recognised."""
    sha256 = hashlib.sha256()
    for chunk in chunks:
        sha256.update(chunk.ids.tobytes())
    return sha256.hexdigest()


def _chunks(text: LabelledText, tokens: Callable[[str], array[int]], size: int) -> list[Chunk]:
    ids = tokens(_read(text.path))
    found = [Chunk(text.label, ids[at : at + size]) for at in range(0, len(ids) - size + 1, size)]
    if not found:
        raise QuantizeError(
            "calibration.too-short", path=str(text.path), tokens=len(ids), least=size
        )
    return found


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:  # whose size may not be known before, as of <(…)
            raw = file.read(_MOST_BYTES + 1)
        if len(raw) > _MOST_BYTES:
            raise QuantizeError("calibration.too-long", path=str(path))
        return raw.decode("utf-8")  # line ends as they are
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise QuantizeError("calibration.unreadable", path=str(path), reason=reason) from error
    except UnicodeDecodeError as error:
        raise QuantizeError("calibration.not-text", path=str(path), byte=error.start) from error
