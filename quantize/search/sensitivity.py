"""How much each weight matrix matters: what its rounding costs, measured.

By the *linearity theorem* (Malinovskii et al., HIGGS, arXiv 2411.17525) the KL divergence that
quantizing causes is, for small errors, a sum over the matrices of a_t · e²_t: a coefficient of
the matrix, whatever the format, times the relative squared error of its rounding (see
`quantize.ggml.blocks`). So one measurement of each matrix is enough: it alone is rounded, the model
reads a text, and a_t = KL / e².

What has been measured is saved after each matrix, and work goes on there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edge.progress import Count, Progress
from quantize.errors import QuantizeError
from quantize.ggml import blocks
from quantize.ggml.imatrix import ImportanceMatrix
from quantize.measuring.calibration import Chunk, LabelledText, balanced, digest
from quantize.measuring.divergence import compare
from quantize.search.notes import Notes, Sensitivity
from quantize.search.patched_model import PatchedModel

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["LEAST_ERROR", "MOST_CHUNKS", "Settings", "is_matrix", "measure_sensitivity"]

_CHUNK, _FIRST = 128, 32
"""Tokens that are read together, and from which on their predictions count."""
_PROBES = ("Q4_0", "IQ4_NL")
"""Rounding that every matrix takes: coarse enough to be seen, fine enough to be small. The
second is for weights that the first says exactly."""
LEAST_ERROR = 1e-6
"""An e² below this is none: the weights stand on the format's grid."""
_SAMPLE = 1 << 20
"""Errors of a format are estimated from so many weights of a matrix, rows drawn at random."""
MOST_CHUNKS = 96
"""The logits of all pieces are held: for a vocabulary of 65,000, 25 MB of each."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a measurement depends on beside the model."""

    texts: Sequence[LabelledText]
    types: tuple[str, ...]
    """Formats to choose from."""
    imatrix: ImportanceMatrix | None = None
    chunks: int = 6
    """Pieces of 128 tokens that are read for each matrix, at most `MOST_CHUNKS`."""
    threads: int = 0
    """0: one for each core."""


def measure_sensitivity(
    floats: Path,
    settings: Settings,
    folder: Path,
    name: str,
    progress: Progress | None = None,
) -> dict[str, Sensitivity]:
    """Measure every weight matrix of a model.

    Args:
        floats: a GGUF file of floats that is ours to write into meanwhile.
        settings: what is read and which formats there are.
        folder: where measurements are kept; what is there of the same model, texts and
            importance matrix is taken from there.
        name: how the model is called.
        progress: called with matrices measured.

    Raises:
        ModelError: the model is damaged or of an unknown kind.
        QuantizeError: a text is too short or cannot be read; the importance matrix is of another
            model; the model computes no numbers.
    """
    with closing(PatchedModel(floats, _CHUNK, settings.threads)) as model:
        pieces = balanced(settings.texts, model.reader.tokens, _CHUNK, settings.chunks)
        shapes = {
            tensor: (info.shape[1], info.shape[0])
            for tensor, info in model.tensors.tensors.items()
            if is_matrix(info.shape)
        }
        key = _key(model, settings, pieces)
        notes = Notes(folder / f"{name}.{key[:8]}.sensitivity.json", key, shapes)
        probing = _Probing(model, settings, pieces)
        count = Count(len(shapes), progress)
        for tensor in shapes:
            if tensor not in notes.tensors:
                notes.add(tensor, probing.measure(tensor))
            elif missing := probing.missing(notes.tensors[tensor]):
                notes.add(tensor, probing.completed(tensor, notes.tensors[tensor], missing))
            count.add(1)
    found = {tensor: notes.tensors[tensor] for tensor in shapes}
    if not any(each.kld for each in found.values()):  # a disk that does not map what is written
        raise QuantizeError("search.no-effect", path=str(floats.parent))
    return found


def is_matrix(shape: tuple[int, ...]) -> bool:
    """Whether a tensor of that shape, columns first, is quantized; norms are not."""
    return len(shape) == 2 and blocks.fits(_PROBES[0], shape[0])


class _Probing:
    """Rounds one matrix after the other and sees what it costs."""

    def __init__(self, model: PatchedModel, settings: Settings, pieces: Sequence[Chunk]) -> None:
        self._model = model
        self._settings = settings
        self._pieces = pieces
        self._reference = [model.logits(piece.ids, _FIRST) for piece in pieces]

    def measure(self, name: str) -> Sensitivity:
        """All there is to know of a matrix."""
        weights = self._model.tensors.read(name)
        importance = self._importance(name, weights.shape[1])
        probe, errors = self._probe(weights, importance)
        rounded = blocks.round_trip(weights, probe, importance, self._settings.threads)
        kld = self._kld(name, rounded)
        rows, columns = weights.shape
        made = Sensitivity(shape=(rows, columns), probe=probe, kld=kld, errors=errors)
        return self.completed(name, made, self.missing(made))

    def missing(self, known: Sensitivity) -> list[str]:
        """The formats to choose from that are not known yet."""
        return [
            kind
            for kind in self._settings.types
            if kind not in known.errors and blocks.fits(kind, known.shape[1])
        ]

    def completed(self, name: str, known: Sensitivity, missing: Sequence[str]) -> Sensitivity:
        """`known` with the errors of more formats."""
        weights = self._model.tensors.read(name)
        importance = self._importance(name, weights.shape[1])
        errors = {kind: self._error(weights, kind, importance) for kind in missing}
        return known.model_copy(update={"errors": known.errors | errors})

    def _probe(
        self, weights: NDArray[np.float32], importance: NDArray[np.float32] | None
    ) -> tuple[str, dict[str, float]]:
        errors = {}
        for kind in _PROBES:
            errors[kind] = self._error(weights, kind, importance)
            if errors[kind] > LEAST_ERROR:
                break
        return kind, errors

    def _error(
        self, weights: NDArray[np.float32], kind: str, importance: NDArray[np.float32] | None
    ) -> float:
        rows = max(1, _SAMPLE // weights.shape[1])
        if len(weights) > rows:  # the same ones for all formats
            chosen = np.random.default_rng(0).choice(len(weights), rows, replace=False)
            weights = weights[np.sort(chosen)]
        back = blocks.round_trip(weights, kind, importance, self._settings.threads)
        return blocks.relative_error(weights, back, importance)

    def _kld(self, name: str, rounded: NDArray[np.float32]) -> float:
        klds = []
        with self._model.patched(name, rounded) as reader:
            for piece, expected in zip(self._pieces, self._reference, strict=True):
                following = np.array(piece.ids[_FIRST + 1 :], dtype=np.int32)
                found = reader.read(piece.ids, _FIRST)[:-1]
                klds.append(compare(expected[:-1], found, following).kld.mean())
        mean = float(np.mean(klds))
        if not np.isfinite(mean):
            raise QuantizeError("search.not-finite", tensor=name)
        return max(0.0, mean)

    def _importance(self, name: str, columns: int) -> NDArray[np.float32] | None:
        """Of each input of a matrix; None where nothing is known of it, as of embeddings."""
        imatrix = self._settings.imatrix
        if imatrix is None or (name not in imatrix.entries and not name.startswith("blk.")):
            return None
        entry = imatrix.entries.get(name)
        inputs = 0 if entry is None else entry.means.size
        if entry is None or inputs != columns:
            raise QuantizeError("imatrix.other-model", tensor=name, columns=columns, inputs=inputs)
        return entry.means


def _key(model: PatchedModel, settings: Settings, pieces: Sequence[Chunk]) -> str:
    """By which measurements of the same model with the same settings are recognised."""
    sha256 = hashlib.sha256(digest(pieces).encode())
    sha256.update(repr((_CHUNK, _FIRST, _PROBES, _SAMPLE)).encode())
    for name, info in sorted(model.tensors.tensors.items()):
        sha256.update(f"{name} {info.shape} {info.type}".encode())
        sha256.update(model.tensors.read_bytes(name, most=4096).tobytes())
    if settings.imatrix is not None:
        for name, entry in sorted(settings.imatrix.entries.items()):
            sha256.update(name.encode() + entry.means.tobytes())
    return sha256.hexdigest()
