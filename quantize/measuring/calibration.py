"""Texts to calibrate on or to measure with, cut into chunks, as many of each.

A text is named by its language, as `fr=FILE`: what matters to one language is not what
matters to another, and a matrix or a figure made of English alone says nothing of French.
"""

from __future__ import annotations

import errno
import hashlib
import os
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice, zip_longest
from pathlib import Path

from quantize.errors import QuantizeError, QuantizeUsageError

__all__ = ["Chunk", "LabelledText", "balanced", "check_there", "digest", "parse"]

_MOST_BYTES = 256 << 20
_PART = 4 << 20
"""Bytes that are encoded at once; the texts by which figures are posted are shorter."""


@dataclass(frozen=True, slots=True)
class LabelledText:
    """A file of UTF-8 text."""

    label: str
    """Its language, or `code`; where nobody has said, the file's name."""
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
        texts.append(LabelledText(label if known else Path(file).name, Path(file)))
    return texts


def check_there(texts: Sequence[LabelledText]) -> None:
    """See that texts can be read, before anything is done; they may be pipes, as of <(…).

    Raises:
        QuantizeError: one is missing, a folder, somebody else's, or empty.
    """
    for path in (text.path for text in texts):
        for wrong, number in (
            (not path.exists(), errno.ENOENT),
            (path.is_dir(), errno.EISDIR),
            (not os.access(path, os.R_OK), errno.EACCES),
        ):
            if wrong:
                reason = os.strerror(number)
                raise QuantizeError("calibration.unreadable", path=str(path), reason=reason)
        if path.is_file() and _is_blank(path):
            raise QuantizeError("calibration.empty", path=str(path))


def _is_blank(path: Path) -> bool:
    """Whether it begins with nothing but blanks, for as long as a part is."""
    with path.open("rb") as file:
        return not file.read(_PART).strip()


def balanced(
    texts: Sequence[LabelledText],
    tokens: Callable[[str], array[int]],
    size: int,
    most: int | None = None,
) -> list[Chunk]:
    """Chunks of `size` tokens, in turn of each label, and equally many of each.

    Texts of the same label take turns, too. No more of a text is encoded than is wanted.

    Args:
        texts: where they come from.
        tokens: encodes a text.
        size: tokens of a chunk.
        most: chunks in all; None: as many of each label as there are of the one that has least.

    Raises:
        QuantizeError: a text cannot be read, or has less than one chunk.
    """
    labels: dict[str, list[Iterator[Chunk]]] = {}
    for text in texts:
        labels.setdefault(text.label, []).append(_chunks(text, tokens, size))
    rounds = zip(*map(_in_turn, labels.values()), strict=False)
    each = None if most is None else max(1, most // len(labels))
    return list(chain.from_iterable(islice(rounds, each)))


def digest(chunks: Sequence[Chunk]) -> str:
    """SHA-256 of the tokens, by which unfinished work is recognised."""
    sha256 = hashlib.sha256()
    for chunk in chunks:
        sha256.update(chunk.ids.tobytes())
    return sha256.hexdigest()


def _in_turn(texts: Sequence[Iterator[Chunk]]) -> Iterator[Chunk]:
    for chunks in zip_longest(*texts):
        yield from filter(None, chunks)


def _chunks(text: LabelledText, tokens: Callable[[str], array[int]], size: int) -> Iterator[Chunk]:
    begin = len(tokens(""))  # BOS, where the model wants one: it stands once
    ids = array("i")
    found = 0
    for number, part in enumerate(_parts(text.path)):
        ids.extend(tokens(part)[begin if number else 0 :])
        whole = len(ids) - len(ids) % size
        for at in range(0, whole, size):
            yield Chunk(text.label, ids[at : at + size])
        found += whole
        del ids[:whole]
    if not found:
        raise QuantizeError(
            "calibration.too-short", path=str(text.path), tokens=len(ids), least=size
        )


def _parts(path: Path) -> Iterator[str]:
    """A text in parts that end with a line, line ends as they are."""
    done = 0
    try:
        with path.open("rb") as file:  # whose size may not be known before, as of <(…)
            while raw := file.read(_PART) + file.readline(_MOST_BYTES):
                if done + len(raw) > _MOST_BYTES:
                    raise QuantizeError("calibration.too-long", path=str(path))
                yield raw.decode("utf-8")
                done += len(raw)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise QuantizeError("calibration.unreadable", path=str(path), reason=reason) from error
    except UnicodeDecodeError as error:
        byte = done + error.start
        raise QuantizeError("calibration.not-text", path=str(path), byte=byte) from error
