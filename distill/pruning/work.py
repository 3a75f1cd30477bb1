"""The folder in which a measurement is under way: what is done is not done again.

recipe.json            what is to be measured
hidden.003             hidden states in front of a layer: that which is to be measured next
layers/000.safetensors what was measured of a layer; it stands when hidden states behind it do
"""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, ValidationError

from distill.errors import DistillError
from edge.durable import replace_file, sync_file, sync_folder
from edge.workshop import held

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Recipe", "Work", "taken"]

_RECIPE = "recipe.json"


class Recipe(BaseModel):
    """What is measured, and on what: the same gives the same figures."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    teacher: str
    """Fingerprint of the model."""
    texts: str
    """SHA-256 of the tokens."""
    pieces: int
    """How many pieces of text."""
    length: int
    """Tokens of a piece."""
    dtype: str
    """What is computed with: float32 or bfloat16."""
    sampled: int
    """Tokens of a piece whose hidden states are kept in front of every layer."""
    layer_loss: int
    """Pieces on which the loss without each layer is measured; 0: it is not."""


@dataclass(frozen=True, slots=True)
class Work:
    """Paths in `folder`, which is ours."""

    folder: Path

    def hidden(self, n: int) -> Path:
        """Hidden states in front of layer `n`, or behind the last one."""
        return self.folder / f"hidden.{n:03d}"

    def done(self, layers: int) -> int:
        """How many layers are measured."""
        return next((n for n in range(layers) if not self._layer(n).exists()), layers)

    def save(self, n: int, figures: Mapping[str, Tensor]) -> None:
        """Keep what was measured of layer `n`, all or nothing; those before it are not needed."""
        from safetensors.torch import save

        # A measured layer says that the states behind it stand: so these are on the disk before it.
        sync_file(self.hidden(n + 1))
        sync_folder(self.folder)
        replace_file(self._layer(n), save(dict(figures)))
        for path in self.folder.glob("hidden.*"):
            if path != self.hidden(n + 1):
                path.unlink()

    def read(self, n: int) -> dict[str, Tensor]:
        """What was measured of layer `n`.

        Raises:
            DistillError: the file is damaged.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(self._layer(n))
        except SafetensorError as error:
            raise DistillError("prune.work-damaged", path=str(self._layer(n))) from error

    def forget(self) -> None:
        """Make it a folder in which nothing is done yet."""
        for path in [*self.folder.glob("hidden.*"), *self.folder.glob("layers/*")]:
            path.unlink()

    def begin(self, recipe: Recipe) -> None:
        """Make the folder, or find it as it was left.

        Raises:
            DistillError: another measurement is under way there, or it is not ours.
        """
        path = self.folder / _RECIPE
        try:
            known = Recipe.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            draft = path.with_suffix(".part")
            if any(file != draft for file in self.folder.iterdir()):
                raise DistillError("prune.not-ours", path=str(self.folder)) from None
            replace_file(path, f"{json.dumps(recipe.model_dump(), indent=1)}\n".encode())
        except ValidationError:
            raise DistillError("prune.not-ours", path=str(self.folder)) from None
        else:
            if known != recipe:
                raise DistillError("prune.other-work", path=str(self.folder))
        self._layer(0).parent.mkdir(exist_ok=True)

    def _layer(self, n: int) -> Path:
        return self.folder / "layers" / f"{n:03d}.safetensors"


@contextmanager
def taken(work: Work, recipe: Recipe) -> Iterator[None]:
    """The folder, for ourselves; what the system refuses there is told as an error.

    Raises:
        DistillError: somebody else is at work there; it is not ours; the disk is full.
    """
    with ExitStack() as stack:
        try:
            work.folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(held(work.folder))
            work.begin(recipe)
            yield
        except BlockingIOError as error:
            raise DistillError("prune.busy", path=str(work.folder)) from error
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            code = "prune.work-full" if full else "prune.work-unwritable"
            reason = error.strerror or str(error)
            raise DistillError(code, path=str(work.folder), reason=reason) from error
