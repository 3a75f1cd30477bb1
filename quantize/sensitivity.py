"""How much each weight matrix matters: what its rounding costs, measured.

By the *linearity theorem* (Malinovskii et al., HIGGS, arXiv 2411.17525) the KL divergence that
quantizing causes is, for small errors, a sum over the matrices of a_t · e²_t: a coefficient of
the matrix, whatever the format, times the relative squared error of its rounding (see
`quantize.blocks`). So one measurement of each matrix is enough: it alone is rounded, the model
reads a text, and a_t = KL / e².

What has been measured is saved after each matrix, and work goes on there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, ValidationError

from edge.progress import Count, Progress
from quantize import blocks
from quantize.calibration import Chunk, LabelledText, balanced, digest
from quantize.divergence import compare
from quantize.errors import QuantizeError
from quantize.imatrix import ImportanceMatrix
from quantize.patched_model import PatchedModel

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Sensitivity", "Settings", "measure_sensitivity"]

_CHUNK, _FIRST = 128, 32
"""Tokens that are read together, and from which on their predictions count."""
_PROBE = "Q4_0"
"""Rounding that every matrix takes: coarse enough to be seen, fine enough to be small."""
_ERROR_ROWS = 1 << 20
"""Errors of a format are estimated from so many weights of a matrix, evenly drawn rows."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a measurement depends on beside the model."""

    texts: Sequence[LabelledText]
    types: tuple[str, ...]
    """Formats to choose from."""
    imatrix: ImportanceMatrix | None = None
    chunks: int = 6
    """Pieces of 128 tokens that are read for each matrix."""
    threads: int = 0
    """0: one for each core."""


class Sensitivity(BaseModel, frozen=True):
    """Of one weight matrix."""

    shape: tuple[int, int]
    """[out, in]"""
    kld: float
    """Mean KL divergence, in nats, with this matrix alone rounded to `Q4_0`."""
    errors: dict[str, float]
    """e² in each format that its rows fit; with `Q4_0`."""

    def cost(self, kind: str) -> float:
        """The KL divergence to expect of that format."""
        probe = self.errors[_PROBE]
        return self.kld / probe * self.errors[kind] if probe else 0.0


class _Draft(BaseModel):
    """The file in which measurements are saved."""

    key: str
    tensors: dict[str, Sensitivity] = {}


def measure_sensitivity(
    floats: Path,
    settings: Settings,
    notes: Path,
    progress: Progress | None = None,
) -> dict[str, Sensitivity]:
    """Measure every weight matrix of a model.

    Args:
        floats: a GGUF file of floats that is ours to write into meanwhile.
        settings: what is read and which formats there are.
        notes: a JSON file in which measurements are kept; what stands in it of the same model
            and settings is taken from there.
        progress: called with matrices measured.

    Raises:
        ModelError: the model is damaged or of an unknown kind.
        QuantizeError: a text is too short or cannot be read.
    """
    with PatchedModel(floats, _CHUNK, settings.threads) as model:
        pieces = balanced(settings.texts, model.reader.tokens, _CHUNK, settings.chunks)
        draft = _resume(notes, _key(model, settings, pieces))
        names = [n for n, info in model.tensors.tensors.items() if _is_matrix(info.shape)]
        reference = [model.logits(piece.ids, _FIRST) for piece in pieces]
        count = Count(len(names), progress)
        for name in names:
            if name not in draft.tensors:
                draft.tensors[name] = _measure(model, name, settings, pieces, reference)
                _save(notes, draft)
            count.add(1)
    return {name: draft.tensors[name] for name in names}


def _is_matrix(shape: tuple[int, ...]) -> bool:
    """Norms stay as they are; GGUF's shapes have the columns first."""
    return len(shape) == 2 and blocks.fits(_PROBE, shape[0])


def _measure(
    model: PatchedModel,
    name: str,
    settings: Settings,
    pieces: Sequence[Chunk],
    reference: Sequence[NDArray[np.float32]],
) -> Sensitivity:
    weights = model.tensors.read(name)
    rows, columns = weights.shape
    importance = _importance(settings.imatrix, name, columns)
    rounded = blocks.round_trip(weights, _PROBE, importance)
    errors = {_PROBE: blocks.relative_error(weights, rounded, importance)}
    klds = []
    with model.patched(name, rounded) as reader:
        for piece, expected in zip(pieces, reference, strict=True):
            following = np.array(piece.ids[_FIRST + 1 :], dtype=np.int32)
            found = reader.read(piece.ids, _FIRST)[:-1]
            klds.append(compare(expected[:-1], found, following).kld.mean())
    sample = np.ascontiguousarray(weights[:: -(-weights.size // _ERROR_ROWS)])
    for kind in settings.types:
        if kind not in errors and blocks.fits(kind, columns):
            back = blocks.round_trip(sample, kind, importance)
            errors[kind] = blocks.relative_error(sample, back, importance)
    return Sensitivity(shape=(rows, columns), kld=max(0.0, float(np.mean(klds))), errors=errors)


def _importance(
    imatrix: ImportanceMatrix | None, name: str, columns: int
) -> NDArray[np.float32] | None:
    """Of each input of a matrix; None where nothing is known of it, as of embeddings."""
    if imatrix is None or name not in imatrix.entries:
        return None
    means = imatrix.entries[name].means
    if means.size != columns:
        raise QuantizeError("imatrix.other-model", tensor=name, columns=columns, inputs=means.size)
    return means


def _key(model: PatchedModel, settings: Settings, pieces: Sequence[Chunk]) -> str:
    """By which measurements of the same model with the same settings are recognised."""
    sha256 = hashlib.sha256(digest(pieces).encode())
    sha256.update(repr((_CHUNK, _FIRST, _PROBE, settings.types)).encode())
    for name, info in sorted(model.tensors.tensors.items()):
        sha256.update(f"{name} {info.shape} {info.type}".encode())
        sha256.update(model.tensors.read_bytes(name, most=4096).tobytes())
    if settings.imatrix is not None:
        for name, entry in sorted(settings.imatrix.entries.items()):
            sha256.update(name.encode() + entry.means.tobytes())
    return sha256.hexdigest()


def _resume(notes: Path, key: str) -> _Draft:
    try:
        draft = _Draft.model_validate_json(notes.read_bytes())
    except (FileNotFoundError, ValidationError):
        return _Draft(key=key)
    return draft if draft.key == key else _Draft(key=key)


def _save(notes: Path, draft: _Draft) -> None:
    part = notes.with_name(f".{notes.name}.part")
    part.write_text(draft.model_dump_json(indent=1), encoding="utf-8")
    part.replace(notes)
