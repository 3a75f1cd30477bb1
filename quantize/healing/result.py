"""What a finished healing has left, read a tensor at a time."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from quantize.errors import QuantizeError
from quantize.grid import BLOCK, GRIDS, Rounded
from quantize.healing.work import damaged

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Healed"]


@dataclass(frozen=True, slots=True)
class Healed:
    """A file of levels and scales of matrices, and of norms.

    Args:
        path: `Work.healed`.
        bits: of the levels.
    """

    path: Path
    bits: int

    def __contains__(self, name: str) -> bool:
        """Whether a tensor was trained."""
        return name.startswith("model.layers.") or name == "model.norm.weight"

    def numbers(self, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """A matrix or norm as floats."""
        one = len(shape) == 1
        return self.norm(name, shape) if one else self.matrix(name, shape).numbers()

    def matrix(self, name: str, shape: tuple[int, ...]) -> Rounded:
        """The matrix of that Hugging Face name.

        Raises:
            QuantizeError: the file is damaged.
        """
        levels = self._read(name, np.int8, shape)
        scales = self._read(f"{name}.scales", np.float16, (shape[0], shape[1] // BLOCK))
        grid = GRIDS[self.bits]
        sound = levels.min() >= grid.lowest and levels.max() <= grid.highest
        if not (sound and np.isfinite(scales).all()):
            raise self._damaged(name)
        return Rounded(levels, scales)

    def norm(self, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """The norm of that name.

        Raises:
            QuantizeError: the file is damaged.
        """
        found = self._read(name, np.float32, shape)
        if not np.isfinite(found).all():
            raise self._damaged(name)
        return found

    def _read(self, name: str, dtype: type[np.generic], shape: tuple[int, ...]) -> NDArray[Any]:
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self.path, framework="np") as file:
                tensor: NDArray[Any] = file.get_tensor(name)
        except (SafetensorError, OSError) as error:
            raise self._damaged(error) from error
        if tensor.dtype != dtype or tensor.shape != shape:
            raise self._damaged(f"{name} {tensor.dtype} {tensor.shape}")
        return tensor

    def _damaged(self, reason: object) -> QuantizeError:
        return damaged(self.path, reason)
