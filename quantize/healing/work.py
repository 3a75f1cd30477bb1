"""The folder in which a healing is under way: what one stage leaves for the next.

recipe.json  pieces.npy          what is to be done
layers/000.safetensors …         where training begins, a file for each layer
states.npy                       what the floats say: hidden states behind the last norm
training.safetensors             how far training is
healed.safetensors               the result
worker.log                       what torch and its friends have to say
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from edge.text import one_line
from quantize.errors import QuantizeError
from quantize.healing.recipe import Recipe

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Work", "damaged", "read_array"]


@dataclass(frozen=True, slots=True)
class Work:
    """Paths in `folder`."""

    folder: Path

    @property
    def pieces(self) -> Path:
        """Tokens [N, T], int32."""
        return self.folder / "pieces.npy"

    @property
    def states(self) -> Path:
        """Hidden states of the floats [N, T, W], float32."""
        return self.folder / "states.npy"

    @property
    def training(self) -> Path:
        """Weights, moments and step of an unfinished training."""
        return self.folder / "training.safetensors"

    @property
    def healed(self) -> Path:
        """Levels, scales and norms of a finished one."""
        return self.folder / "healed.safetensors"

    @property
    def log(self) -> Path:
        """What libraries say."""
        return self.folder / "worker.log"

    @property
    def _recipe(self) -> Path:
        return self.folder / "recipe.json"

    def layer(self, n: int) -> Path:
        """Where training begins in layer `n`."""
        return self.folder / "layers" / f"{n:03d}.safetensors"

    def hidden(self, n: int) -> Path:
        """Hidden states in front of layer `n`; two files in turn."""
        return self.folder / f"hidden.{n % 2}.npy"

    def prepared(self, layers: int) -> bool:
        """Whether training of a model of so many layers can begin."""
        return self.states.exists() and all(self.layer(n).exists() for n in range(layers))

    def begin(self, recipe: Recipe, pieces: Sequence[array[int]]) -> None:
        """Make the folder, or find it as it was left.

        Raises:
            QuantizeError: another healing is under way there.
        """
        import numpy as np

        self.folder.mkdir(exist_ok=True)
        if not self._recipe.exists():
            draft = self._recipe.with_suffix(".part")
            if any(file != draft for file in self.folder.iterdir()):
                raise QuantizeError("heal.not-ours", path=str(self.folder))
            draft.write_text(recipe.model_dump_json(indent=1) + "\n", encoding="utf-8")
            draft.replace(self._recipe)
        elif self.recipe() != recipe:
            raise QuantizeError("heal.other", path=str(self.folder))
        _save_array(self.pieces, np.array(pieces, np.int32))
        self.layer(0).parent.mkdir(exist_ok=True)

    def recipe(self) -> Recipe:
        """What is done here.

        Raises:
            QuantizeError: the file says nothing of the kind.
        """
        try:
            return Recipe.model_validate_json(self._recipe.read_bytes())
        except (OSError, ValidationError) as error:
            raise QuantizeError("heal.not-ours", path=str(self.folder)) from error


def read_array(path: Path) -> NDArray[Any]:
    """An array that stays on disk until it is used.

    Raises:
        QuantizeError: the file is missing or damaged.
    """
    import numpy as np

    try:
        found: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise damaged(path, error) from error
    return found


def damaged(path: Path, reason: object) -> QuantizeError:
    """The error that says so."""
    return QuantizeError("heal.damaged", path=str(path), reason=one_line(reason))


def _save_array(path: Path, content: NDArray[np.generic]) -> None:
    """Write an array, all or nothing."""
    import numpy as np

    draft = path.with_suffix(".part")
    with draft.open("wb") as file:
        np.save(file, content, allow_pickle=False)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
