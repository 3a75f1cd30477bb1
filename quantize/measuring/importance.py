"""Collecting an importance matrix: reading a calibration text and summing what goes in.

The work is saved every few seconds beside its result, and goes on there when it is called again
with the same model and texts.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from edge.durable import replace_file
from edge.errors import LucieError
from edge.progress import Progress
from quantize.errors import QuantizeError, QuantizeUsageError
from quantize.ggml.imatrix import Importance, ImportanceMatrix
from quantize.measuring.activations import watch
from quantize.measuring.calibration import LabelledText, balanced, digest
from quantize.measuring.reading import Reader

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["CHUNK", "collect"]

CHUNK = 512
"""Tokens that are read together; llama-imatrix's default."""
_SAVE_EVERY_S = 5.0


@dataclass
class _Sums:
    """What has been collected so far."""

    squares: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, name: str, inputs: NDArray[np.float32]) -> None:
        """Count the inputs [rows, in] of a matrix."""
        squares = np.einsum("ti,ti->i", inputs, inputs, dtype=np.float64)
        if name in self.squares:
            self.squares[name] += squares
        else:
            self.squares[name] = squares
        self.counts[name] = self.counts.get(name, 0) + len(inputs)

    def matrix(self, datasets: tuple[str, ...], chunks: int, text: str) -> ImportanceMatrix:
        """As a file holds it."""
        entries = {
            name: Importance(
                squares.astype(np.float32), np.array([self.counts[name]], dtype=np.float32)
            )
            for name, squares in self.squares.items()
        }
        return ImportanceMatrix(entries, datasets, chunks, CHUNK, text)

    def keep(self, draft: Path, chunks: int, text: str) -> None:
        """Write them to a file, as precise as they are."""
        facts = {"chunks": str(chunks), "text": text, "counts": json.dumps(self.counts)}
        replace_file(draft, save(self.squares, facts))


def collect(
    model: Path,
    texts: Sequence[LabelledText],
    out: Path,
    *,
    chunks: int | None = None,
    threads: int = 0,
    progress: Progress | None = None,
) -> ImportanceMatrix:
    """Read texts with `model` and write its importance matrix to `out`.

    Args:
        model: a GGUF file, of floats where it can be.
        texts: what to read, equally much of each language.
        out: the file to make, in llama.cpp's format; replaced if it is there.
        chunks: pieces of 512 tokens in all; None: as many as `balanced` finds.
        threads: threads to compute with; 0: one for each core.
        progress: called with chunks read.

    Raises:
        ModelError: the model is damaged or of an unknown kind.
        QuantizeError: a text is too short or cannot be read; the model computes no numbers;
            there is no place for `out`.
    """
    if model.suffix == ".onnx":
        raise QuantizeUsageError("imatrix.wants-gguf", path=str(model))
    _check_place(out)
    sums = _Sums()
    with closing(Reader(model, CHUNK, threads, watch(sums.add))) as reader:
        pieces = balanced(texts, reader.tokens, CHUNK, chunks)
        text = digest(pieces)
        datasets = tuple(text.path.name for text in texts)
        draft = _draft(out, model)
        done = _resume(draft, sums, text)
        saved = time.monotonic()
        for number, piece in enumerate(pieces[done:], done + 1):
            reader.read(piece.ids)
            _check(model, sums)
            if progress is not None:
                progress(number, len(pieces))
            if time.monotonic() - saved > _SAVE_EVERY_S:
                sums.keep(draft, number, text)
                saved = time.monotonic()
    matrix = sums.matrix(datasets, len(pieces), text)
    matrix.write(out)
    draft.unlink(missing_ok=True)
    return matrix


def _check_place(out: Path) -> None:
    """Nothing but an older matrix is overwritten: a model is a GGUF file, too."""
    if not out.parent.is_dir():
        raise QuantizeError("imatrix.no-folder", path=str(out.parent))
    if not os.access(out.parent, os.W_OK | os.X_OK):
        raise QuantizeError("imatrix.read-only", path=str(out.parent))
    if not out.exists():
        return
    try:
        ImportanceMatrix.read(out)
    except LucieError as error:
        raise QuantizeError("imatrix.in-the-way", path=str(out)) from error


def _draft(out: Path, model: Path) -> Path:
    """Where unfinished work of this very model is kept."""
    status = model.stat()
    identity = f"{model.resolve()} {status.st_size} {status.st_mtime_ns}"
    key = hashlib.sha256(identity.encode()).hexdigest()[:8]
    return out.with_name(f".{out.name}.{key}.unfinished")


def _resume(draft: Path, sums: _Sums, text: str) -> int:
    """Take up unfinished work on the same text; how many chunks it had read."""
    if not draft.exists():
        return 0
    try:
        with safe_open(draft, framework="np") as file:
            facts = file.metadata() or {}
            if facts.get("text") != text:
                return 0
            sums.squares = {name: file.get_tensor(name) for name in file.offset_keys()}
    except (SafetensorError, OSError):  # damaged, or of an older version
        return 0
    sums.counts = json.loads(facts["counts"])
    return int(facts["chunks"])


def _check(model: Path, sums: _Sums) -> None:
    if not all(np.isfinite(squares).all() for squares in sums.squares.values()):
        raise QuantizeError("imatrix.not-finite", path=str(model))
