"""The processes of a training, and what they tell each other.

They form a box of pipeline × data × tensor processes (torch's DeviceMesh). One process alone is
the box of one, and needs no network of processes at all.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from edge.torch_start import start
from pretrain.errors import PretrainUsageError
from pretrain.recipe import Parallel

__all__ = ["World"]

T = TypeVar("T")

_AXES = ("pipeline", "data", "tensor")


@dataclass(frozen=True)
class World:
    """This process among the others."""

    device: torch.device
    parallel: Parallel
    box: DeviceMesh | None = None
    """None: it is alone."""
    ends: dist.ProcessGroup | None = None
    """With the process at the other end of its pipeline."""

    @classmethod
    @contextmanager
    def joined(cls, parallel: Parallel) -> Iterator[Self]:
        """Meet the other processes, which torchrun has started.

        Raises:
            PretrainUsageError: there are not as many as the recipe shares the work among.
        """
        found = int(os.environ.get("WORLD_SIZE", "1"))
        if found != parallel.processes:
            raise PretrainUsageError(
                "train.processes",
                found=found,
                wanted=parallel.processes,
                data=parallel.data,
                tensor=parallel.tensor,
                pipeline=parallel.pipeline,
            )
        device = _device()
        if device.type == "cpu":
            start(torch, parallel.threads or _threads())
        if found == 1:
            yield cls(device, parallel)
            return
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        try:
            shape = tuple(getattr(parallel, axis) for axis in _AXES)
            box = init_device_mesh(device.type, shape, mesh_dim_names=_AXES)
            yield cls(device, parallel, box, _ends(box))
            dist.barrier()  # gloo may abort in a process whose peers have gone already
        finally:
            dist.destroy_process_group()

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and speaks."""
        return self.box is None or dist.get_rank() == 0

    @property
    def last(self) -> bool:
        """Whether its part of the pipeline computes the loss."""
        return self.place("pipeline") == self.parallel.pipeline - 1

    @property
    def chief(self) -> bool:
        """Whether this is the first of its part of the pipeline."""
        return self.place("data") == 0 and self.place("tensor") == 0

    def place(self, axis: str) -> int:
        """The number of this process on an axis of the box."""
        return 0 if self.box is None else self.box[axis].get_local_rank()

    def group(self, axis: str) -> dist.ProcessGroup | None:
        """Those that differ from this one on that axis alone; None: nobody."""
        if self.box is None or getattr(self.parallel, axis) == 1:
            return None
        return self.box[axis].get_group()

    def mesh(self, axis: str) -> DeviceMesh | None:
        """The same as torch's parallel modules want it."""
        if self.box is None or getattr(self.parallel, axis) == 1:
            return None
        return self.box[axis]

    def share(self, sequences: int) -> range:
        """Which of the sequences of a step this process reads."""
        each = sequences // self.parallel.data
        start = self.place("data") * each
        return range(start, start + each)

    def summed(self, value: Tensor, axis: str) -> Tensor:
        """The sum of a value over an axis."""
        group = self.group(axis)
        if group is not None:
            dist.all_reduce(value, group=group)
        return value

    def any(self, *flags: bool) -> list[bool]:
        """Of each flag, whether it is set in any process."""
        if self.box is None:
            return list(flags)
        said = torch.tensor(flags, dtype=torch.int32, device=self.device)
        dist.all_reduce(said, dist.ReduceOp.MAX)
        return [bool(flag) for flag in said.tolist()]

    def mine(self, things: Sequence[T]) -> Sequence[T]:
        """This process's share of what each could do."""
        return things if self.box is None else things[dist.get_rank() :: dist.get_world_size()]

    def sums(self, numbers: Sequence[int]) -> list[int]:
        """Of each number, the sum over all processes; every one must call it with as many."""
        if self.box is None:
            return list(numbers)
        said = torch.tensor(numbers, dtype=torch.int64, device=self.device)
        dist.all_reduce(said)
        return said.tolist()

    def wait(self) -> None:
        """Until all are here."""
        if self.box is not None:
            dist.barrier()


def _ends(box: DeviceMesh) -> dist.ProcessGroup | None:
    """The group of the first and the last of a pipeline that this process is an end of."""
    first, last = box.mesh[0].flatten().tolist(), box.mesh[-1].flatten().tolist()
    mine = None
    for pair in zip(first, last, strict=True) if first != last else ():
        group = dist.new_group(list(pair))  # which every process must call for
        if dist.get_rank() in pair:
            mine = group
    return mine


def _threads() -> int:
    """Of this process: the cores that it may use, shared with the others of this computer."""
    local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    # torchrun leaves each of several processes one.
    return torch.get_num_threads() if local == 1 else max(1, _cores() // local)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def _device() -> torch.device:
    if not torch.cuda.is_available():
        return torch.device("cpu")
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    torch.cuda.set_device(device)
    return device
