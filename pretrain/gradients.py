"""The gradient of a step: micro-batches, pipeline, and what processes exchange of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.pipelining import PipelineStage, Schedule1F1B
from torch.distributed.tensor import DTensor

from pretrain.part import Objective, Part, Wanted
from pretrain.world import World

__all__ = ["Gradients", "alike", "micro_batches"]


class Gradients:
    """Computes losses and gradients of this process's share of a step.

    Args:
        part: the share of the model.
        world: the processes.
        sequences: how many this process reads in a step.
        together: the most of them whose activations are in memory at once.
    """

    def __init__(self, part: Part, world: World, sequences: int, together: int) -> None:
        self.part = part
        self.world = world
        # A pipeline has every part at work on another micro-batch.
        self._parts = micro_batches(sequences, min(together, sequences // world.parallel.pipeline))
        self._pipeline: Schedule1F1B | None = None
        group = world.group("pipeline")
        if group is not None:
            stage = PipelineStage(
                part, world.place("pipeline"), world.parallel.pipeline, world.device, group=group
            )
            # The last part gives its loss; what it compares with went into it.
            self._pipeline = Schedule1F1B(stage, self._parts, loss_fn=lambda loss, _: loss.mean())

    def compute(self, ids: Tensor, wanted: Wanted) -> Tensor:
        """Leave gradients in the parameters; the loss, the mean over all processes.

        Args:
            ids: tokens [B, T] of this process.
            wanted: what the objective compares with.
        """
        loss = self._loss(ids, wanted)
        if self._pipeline is not None:
            self._share_table()
        return loss

    def measure(self, ids: Tensor, wanted: Wanted, objective: Objective) -> Tensor:
        """The loss by another objective, without gradients; the mean over all processes."""
        own, self.part.objective = self.part.objective, objective
        try:
            with torch.no_grad():
                return self._loss(ids, wanted)
        finally:
            self.part.objective = own
            if isinstance(self.part, FSDPModule):  # a backward pass does, and here is none
                self.part.reshard()

    def _loss(self, ids: Tensor, wanted: Wanted) -> Tensor:
        if self._pipeline is None:
            loss = self._plain(ids, wanted)
        else:
            # The last part of a pipeline alone has it.
            loss = self.world.summed(self._piped(self._pipeline, ids, wanted), "pipeline")
        return self.world.summed(loss, "data") / self.world.parallel.data

    def _plain(self, ids: Tensor, wanted: Wanted) -> Tensor:
        total = torch.zeros((), device=ids.device)
        for n, (some, of) in enumerate(_split(ids, wanted, self._parts)):
            if isinstance(self.part, FSDPModule):  # exchange gradients when the last are there
                self.part.set_requires_gradient_sync(n == self._parts - 1)
            loss = self.part(some, of).mean() / self._parts
            if loss.requires_grad:
                loss.backward()
            total += loss.detach()
        return total

    def _piped(self, pipeline: Schedule1F1B, ids: Tensor, wanted: Wanted) -> Tensor:
        given: list[Tensor] = [ids] if self.part.first else []
        more: dict[str, Any] = {}
        losses: list[Tensor] = []
        if self.part.last:
            more = {"wanted": dict(wanted), "target": ids, "losses": losses}
        run = pipeline.step if torch.is_grad_enabled() else pipeline.eval
        run(*given, **more)
        return torch.stack(losses).mean().detach() if losses else torch.zeros((), device=ids.device)

    def _share_table(self) -> None:
        """The first part and the last have one table: its gradient is the sum of both's."""
        if self.part.tied and self.part.first != self.part.last:
            gradient = self.part.table.grad
            assert gradient is not None  # noqa: S101 - both ends compute with it
            dist.all_reduce(_local(gradient), group=self.world.ends)

    def norm(self) -> Tensor:
        """The norm of the gradient of the whole model."""
        squares = torch.zeros((), device=self.world.device)
        for parameters in alike(self._own()).values():
            found = [p.grad for p in parameters if p.grad is not None]
            norm = torch.nn.utils.get_total_norm(found)
            squares += (norm.full_tensor() if isinstance(norm, DTensor) else norm) ** 2
        return self.world.summed(squares, "pipeline").sqrt()

    def clip(self, most: float) -> Tensor:
        """Cut the gradient to a norm; returns what it had been."""
        norm = self.norm()
        by = torch.clamp(most / (norm + 1e-6), max=1.0)
        for parameter in self.part.parameters():
            if parameter.grad is not None:
                _local(parameter.grad).mul_(by)
        return norm

    def _own(self) -> Iterator[nn.Parameter]:
        """Parameters that no earlier part of the pipeline has, too."""
        repeated = self.part.tied and self.part.last and not self.part.first
        twice = self.part.table if repeated else None
        return (each for each in self.part.parameters() if each is not twice)


def micro_batches(sequences: int, together: int) -> int:
    """Into how many equal parts to cut, so that none has more than `together`."""
    parts = -(-sequences // together)
    while sequences % parts:
        parts += 1
    return parts


def alike(parameters: Iterator[nn.Parameter]) -> dict[Any, list[nn.Parameter]]:
    """Parameters by how they lie in the processes: torch computes with such at once."""
    groups: dict[Any, list[nn.Parameter]] = defaultdict(list)
    for each in parameters:
        place = (each.device_mesh, each.placements) if isinstance(each, DTensor) else None
        groups[place].append(each)
    return groups


def _split(ids: Tensor, wanted: Wanted, parts: int) -> Iterator[tuple[Tensor, Wanted]]:
    pieces = {name: tensor.chunk(parts) for name, tensor in wanted.items()}
    for n, some in enumerate(ids.chunk(parts)):
        yield some, {name: each[n] for name, each in pieces.items()}


def _local(tensor: Tensor) -> Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor
