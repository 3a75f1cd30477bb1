"""Whether two folders hold the same model, without reading all of it."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from edge.checkpoint import Checkpoint, TensorPlace
from edge.checkpoint_documents import unreadable

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["fingerprint", "read_rows"]


def fingerprint(checkpoint: Checkpoint) -> str:
    """SHA-256 of a model's shape, of the name, shape and type of each tensor, and its first row.

    Training touches every matrix, so a model that was trained further has another one; a copy,
    plain or as a bundle, in one file or in many, has the same.

    Raises:
        CheckpointError: a tensor cannot be read.
    """
    sha256 = hashlib.sha256()
    sha256.update(json.dumps(checkpoint.config.as_json(), sort_keys=True).encode())
    for name, place in sorted(checkpoint.tensors.items()):
        sha256.update(json.dumps([name, place.shape, place.dtype]).encode())
        sha256.update(read_rows(place, name, 0, 1).tobytes())
    return sha256.hexdigest()


def read_rows(place: TensorPlace, name: str, start: int, stop: int) -> NDArray[Any]:
    """Rows `start` to `stop` of a tensor, in the type of the file; nothing else of it is read.

    Raises:
        CheckpointError: its file cannot be read, or has changed since it was opened.
    """
    import ml_dtypes  # noqa: F401 - teaches numpy bfloat16
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(place.file, framework="np") as opened:
            rows: NDArray[Any] = opened.get_slice(name)[start:stop]
    except (SafetensorError, OSError) as error:
        raise unreadable(place.file, error) from error
    return rows
