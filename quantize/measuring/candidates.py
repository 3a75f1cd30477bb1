"""How far quantized models are from the one that they were made of, language by language.

All are read side by side, a chunk at a time, as `llama-perplexity` reads: in each chunk the
first half is context only. Nothing is written to disk meanwhile; logits of one chunk are
what is held of each model.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path

import numpy as np

from edge.progress import Progress
from quantize.errors import QuantizeError
from quantize.measuring.calibration import Chunk, LabelledText, balanced
from quantize.measuring.divergence import Figures, Positions, compare, summarise
from quantize.measuring.readers import open_reader
from quantize.measuring.text_reader import ReaderVocab, TextReader

__all__ = ["ALL", "CHUNK", "measure"]

CHUNK = 512
"""Tokens that are read together; llama-perplexity's default."""
ALL = "all"
"""Label of the figures over all texts."""

_Found = dict[str, list[Positions]]


def measure(
    reference: Path,
    candidates: Sequence[Path],
    texts: Sequence[LabelledText],
    *,
    chunks: int | None = None,
    threads: int = 0,
    progress: Progress | None = None,
) -> list[dict[str, Figures]]:
    """Figures of each candidate: for each label of `texts`, and for `ALL` of them.

    Args:
        reference: a model file of floats, or the best there is.
        candidates: model files with the same vocabulary.
        texts: what to read, equally much of each.
        chunks: pieces of 512 tokens in all; None: as many as the shortest text gives of each.
        threads: threads to compute with; 0: one for each core.
        progress: called with chunks read.

    Raises:
        ModelError: a model is damaged or of an unknown kind.
        QuantizeError: a candidate has another vocabulary; a text is too short or cannot be read.
    """
    with ExitStack() as stack:
        judge, *readers = [
            stack.enter_context(closing(open_reader(path, CHUNK, threads)))
            for path in (reference, *candidates)
        ]
        # Floats that judge an ONNX model may lack its tokenizer.
        pieces = balanced(texts, (*readers, judge)[0].tokens, CHUNK, chunks)
        for path, reader in zip(candidates, readers, strict=True):
            _check_vocabulary(judge, reader, path)
        found: list[_Found] = [{} for _ in readers]
        for number, piece in enumerate(pieces, 1):
            _read(judge, readers, piece, found)
            if progress is not None:
                progress(number, len(pieces))
    return [_summary(each) for each in found]


def _check_vocabulary(judge: TextReader, reader: TextReader, path: Path) -> None:
    """Ids must mean the same to both, as far as both know them: rows that fill up mean nothing."""
    ours, theirs = judge.vocab, reader.vocab
    if ours.n_vocab == theirs.n_vocab and _first(ours) != _first(theirs):
        raise QuantizeError("compare.first", path=str(path))
    pairs = ((ours.piece(token), theirs.piece(token)) for token in range(ours.n_vocab))
    same = ours.n_vocab == theirs.n_vocab and all(a == b for a, b in pairs if a and b)
    if not same:
        raise QuantizeError("compare.vocabulary", path=str(path))


def _first(vocab: ReaderVocab) -> int | None:
    """What is put before a text."""
    return vocab.bos if vocab.add_bos else None


def _read(judge: TextReader, readers: list[TextReader], piece: Chunk, found: list[_Found]) -> None:
    first = CHUNK // 2
    following = np.array(piece.ids[first + 1 :], dtype=np.int32)
    reference = judge.read(piece.ids, first)[:-1]
    for reader, positions in zip(readers, found, strict=True):
        candidate = reader.read(piece.ids, first)[:-1]
        positions.setdefault(piece.label, []).append(compare(reference, candidate, following))


def _summary(found: _Found) -> dict[str, Figures]:
    figures = {label: summarise(Positions.joined(parts)) for label, parts in found.items()}
    everything = [part for parts in found.values() for part in parts]
    return figures | {ALL: summarise(Positions.joined(everything))}
