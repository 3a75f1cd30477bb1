"""Tensors on disk, all or nothing, and a training that can be taken up from there.

Only safetensors: what torch saves by itself is a pickle, which may run any program when it
is opened.
"""

from __future__ import annotations

import errno
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from edge.durable import sync_file, sync_folder
from quantize.healing.work import damaged

if TYPE_CHECKING:
    from torch.optim import Optimizer

__all__ = ["gather", "read_tensors", "restore", "save", "weights", "write_tensors"]

_STEP = "step"
_MOMENTS = ("exp_avg", "exp_avg_sq")
"""AdamW's, by its names for them."""


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write a safetensors file that is there after a pulled plug, or is not."""
    draft = path.with_suffix(".part")
    dense = {name: tensor.contiguous() for name, tensor in tensors.items()}
    try:
        save_file(dense, draft, dict(metadata or {}))
    except SafetensorError as error:  # which has the system's reason in its words alone
        full = shutil.disk_usage(draft.parent).free < sum(t.nbytes for t in dense.values())
        draft.unlink(missing_ok=True)
        raise OSError(errno.ENOSPC if full else errno.EIO, str(error)) from error
    sync_file(draft)
    draft.replace(path)
    sync_folder(path.parent)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a file.

    Raises:
        QuantizeError: it is missing or damaged.
    """
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise damaged(path, error) from error


def weights(model: nn.Module) -> dict[str, Tensor]:
    """All that is trained, whole and in memory, by its name in the model.

    Every process must call it: of a sharded model each has a part.
    """
    return {name: _whole(parameter) for name, parameter in _trained(model).items()}


def gather(model: nn.Module, optimizer: Optimizer) -> dict[str, Tensor]:
    """`weights`, and their moments as `exp_avg.<name>`; every process must call it."""
    state = weights(model)
    for name, parameter in _trained(model).items():
        known = optimizer.state[parameter]
        state |= {f"{moment}.{name}": _whole(known[moment]) for moment in _MOMENTS}
    return state


def save(path: Path, state: Mapping[str, Tensor], step: int) -> None:
    """Write what `gather` gave after so many steps."""
    write_tensors(path, state, {_STEP: str(step)})


def restore(path: Path, model: nn.Module, optimizer: Optimizer) -> int:
    """Take up what was saved; how many steps had been done.

    Raises:
        QuantizeError: the file is damaged, or of another training.
    """
    try:
        with safe_open(path, framework="pt") as file:
            step = int(file.metadata()[_STEP])
            for name, parameter in _trained(model).items():
                with torch.no_grad():
                    parameter.copy_(_like(parameter, file.get_tensor(name)))
                optimizer.state[parameter] = {"step": torch.tensor(float(step))} | {
                    moment: _like(parameter, file.get_tensor(f"{moment}.{name}"))
                    for moment in _MOMENTS
                }
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise damaged(path, error) from error
    return step


def _trained(model: nn.Module) -> dict[str, nn.Parameter]:
    found = model.named_parameters()
    return {name: parameter for name, parameter in found if parameter.requires_grad}


def _whole(tensor: Tensor) -> Tensor:
    tensor = tensor.detach()
    return (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).cpu()


def _like(parameter: nn.Parameter, whole: Tensor) -> Tensor:
    """`whole`, which must have its shape, where and in the parts in which `parameter` is."""
    if whole.shape != parameter.shape:
        raise ValueError(f"{tuple(whole.shape)} for {tuple(parameter.shape)}")
    if isinstance(parameter, DTensor):
        return distribute_tensor(whole, parameter.device_mesh, parameter.placements)
    return whole.to(parameter.device)
