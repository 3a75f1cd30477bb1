"""Weights as Hugging Face lays them out, written by the processes that have them.

Each part of a pipeline writes its own shard, a tensor at a time; the first process adds their
index.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from pretrain.assembly import gathered
from pretrain.errors import PretrainError
from pretrain.part import Part
from pretrain.world import World

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["write_weights"]


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
    import torch
    from safetensors.torch import save_file

    tensors: dict[str, Tensor] = {}
    repeated = part.tied and not part.first  # the table, which the first part has
    for name, parameter in part.named_parameters():
        whole = gathered(parameter)
        if not bool(torch.isfinite(whole).all()):
            raise PretrainError("train.not-finite", tensor=name)
        if world.chief and not (repeated and parameter is part.table):
            tensors[name] = whole.contiguous()
    of, at = world.parallel.pipeline, world.place("pipeline")
    if world.chief:
        save_file(tensors, folder / _shard(at, of), {"format": "pt"})
        if of > 1:
            names = json.dumps({name: tensor.nbytes for name, tensor in tensors.items()})
            (folder / f"names-{at}.json").write_text(names, encoding="utf-8")
    world.wait()
    if world.first and of > 1:
        _write_index(folder, of)
    world.wait()


def _shard(at: int, of: int) -> str:
    return "model.safetensors" if of == 1 else f"model-{at + 1:05d}-of-{of:05d}.safetensors"


def _write_index(folder: Path, of: int) -> None:
    places: dict[str, str] = {}
    size = 0
    for at in range(of):
        names = folder / f"names-{at}.json"
        for name, nbytes in json.loads(names.read_text(encoding="utf-8")).items():
            places[name] = _shard(at, of)
            size += nbytes
        names.unlink()
    index = {"metadata": {"total_size": size}, "weight_map": places}
    path = folder / "model.safetensors.index.json"
    path.write_text(json.dumps(index, indent=1), encoding="utf-8")
