"""Weights as Hugging Face lays them out, written by the processes that have them.

Each part of a pipeline writes its own shard, a tensor at a time; the first process adds their
index.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edge.weights_file import INDEX, shard_name, write_file
from pretrain.assembly import gathered
from pretrain.errors import PretrainError
from pretrain.part import Part
from pretrain.world import World

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

__all__ = ["write_weights"]

_BLOCK = 1 << 20
"""Numbers that are copied at a time."""


def write_weights(part: Part, folder: Path, world: World) -> None:
    """Write the weights of a model; every process must call it.

    Args:
        part: this process's share.
        folder: is there; takes `model.safetensors`, or a shard of each part of a pipeline and
            their index.
        world: the processes.

    Raises:
        PretrainError: a weight is no number; the last step made it so.
    """
    repeated = part.tied and not part.first  # the table, which the first part has
    tensors = [
        _Gathered(name, parameter)
        for name, parameter in sorted(part.named_parameters())  # as safetensors sorts them
        if not (repeated and parameter is part.table)
    ]
    of, at = world.parallel.pipeline, world.place("pipeline")
    if world.chief:
        write_file(folder / shard_name(at + 1, of), tensors)
        if of > 1:
            names = json.dumps({each.name: each.parameter.nbytes for each in tensors})
            (folder / f"names-{at}.json").write_text(names, encoding="utf-8")
    else:
        for each in tensors:  # the chief gathers it now, and has to be given its parts
            each.whole()
    world.wait()
    if world.first and of > 1:
        _write_index(folder, of)
    world.wait()


@dataclass(frozen=True)
class _Gathered:
    """A parameter that is whole in memory only while it is written."""

    name: str
    parameter: Tensor
    kind: str = "F32"

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.parameter.shape)

    def whole(self) -> Tensor:
        import torch

        found = gathered(self.parameter)
        if not bool(torch.isfinite(found).all()):
            raise PretrainError("train.not-finite", tensor=self.name)
        return found

    def blocks(self) -> Iterator[NDArray[np.float32]]:
        import torch

        for block in torch.split(self.whole().flatten(), _BLOCK):
            yield block.numpy()


def _write_index(folder: Path, of: int) -> None:
    places: dict[str, str] = {}
    size = 0
    for at in range(of):
        names = folder / f"names-{at}.json"
        for name, nbytes in json.loads(names.read_text(encoding="utf-8")).items():
            places[name] = shard_name(at + 1, of)
            size += nbytes
        names.unlink()
    index = {"metadata": {"total_size": size}, "weight_map": places}
    path = folder / INDEX
    path.write_text(json.dumps(index, indent=1), encoding="utf-8")
