"""Whether a checkpoint holds what its config promises, and its numbers as an export wants them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edge.checkpoint import Checkpoint
from edge.errors import CheckpointError
from edge.progress import Count, Progress
from quantize.checkpoint.floats import NotFiniteError, convert, dtype
from quantize.checkpoint.llama_tensors import LlamaTensor, tensors

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

__all__ = ["check_numbers", "complete", "numbers"]


def complete(checkpoint: Checkpoint) -> list[LlamaTensor]:
    """The tensors of the model, all of which are there, in the right shape.

    Raises:
        CheckpointError: one is missing, is of another shape, or belongs to no Llama model.
    """
    wanted = list(tensors(checkpoint.config))
    for tensor in wanted:
        place = checkpoint.tensors.get(tensor.hf)
        if place is None:
            raise checkpoint.missing(tensor.hf)
        if place.shape != tensor.shape:
            raise checkpoint.misshapen(tensor.hf, tensor.shape)
    checkpoint.check_names({tensor.hf for tensor in wanted})
    return wanted


def check_numbers(checkpoint: Checkpoint, progress: Progress | None = None) -> None:
    """Read all of it once.

    Args:
        checkpoint: the model.
        progress: called with bytes read.

    Raises:
        CheckpointError: it is not complete; a tensor cannot be read; a number is not finite.
    """
    names = [tensor.hf for tensor in complete(checkpoint)]
    count = Count(sum(checkpoint.tensors[name].n_bytes for name in names), progress)
    for name in names:
        numbers(checkpoint, name, "F32")
        count.add(checkpoint.tensors[name].n_bytes)


def numbers(
    checkpoint: Checkpoint,
    name: str,
    kind: str,
    arrange: Callable[[NDArray[Any]], NDArray[Any]] | None = None,
) -> NDArray[Any]:
    """A tensor in its shape as `F32`, `F16` or `BF16`, every number of it finite.

    Args:
        checkpoint: where it stands.
        name: its Hugging Face name.
        kind: what is wanted.
        arrange: puts its rows into another order.

    Raises:
        CheckpointError: it is missing or cannot be read; a number is not finite, or too large.
    """
    source = checkpoint.read(name)
    if arrange is not None:
        source = arrange(source)
    made = np.empty(source.size, dtype(kind))
    at = 0
    try:
        for part in convert(source, kind):
            made[at : at + part.size] = part
            at += part.size
    except NotFiniteError as error:
        code = "checkpoint.not-finite" if error.source else "checkpoint.overflow"
        path = str(checkpoint.tensors[name].file)
        raise CheckpointError(code, path=path, tensor=name, kind=kind) from None
    return made.reshape(source.shape)
