"""Numbers of a checkpoint as those of a GGUF file, a slice at a time.

A type narrower than the source's may turn a large weight into infinity, which a model
answers with nonsense: that is an error here, as is NaN or infinity in the source.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["FLOATS", "NotFiniteError", "convert", "dtype"]

FLOATS = ("F32", "F16", "BF16")
_SLICE = 1 << 20


class NotFiniteError(ValueError):
    """A number is NaN or infinite, in the source or after conversion."""

    def __init__(self, *, source: bool) -> None:
        super().__init__()
        self.source = source
        """Whether it is so in the source already."""


def dtype(kind: str) -> np.dtype[Any]:
    """numpy's type for `F32`, `F16` or `BF16`."""
    import ml_dtypes

    types = {"F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16}
    found: np.dtype[Any] = np.dtype(types[kind])
    return found


def convert(tensor: NDArray[Any], kind: str) -> Iterator[NDArray[Any]]:
    """The numbers of `tensor` in order, as `kind`, in slices of up to a million.

    Args:
        tensor: float32, float16 or bfloat16 (of ml_dtypes), of any shape.
        kind: `F32`, `F16` or `BF16`.

    Raises:
        NotFiniteError: a number is not, or would not stay, finite.
    """
    wanted = dtype(kind)
    flat = tensor.reshape(-1)
    for start in range(0, flat.size, _SLICE):
        source = flat[start : start + _SLICE]
        with np.errstate(over="ignore"):  # seen below
            slice_ = source.astype(wanted)  # to the nearest, ties to even
        if not np.isfinite(slice_).all():
            raise NotFiniteError(source=not np.isfinite(source).all())
        yield slice_
