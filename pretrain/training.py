"""The loop: read, gradient, step, note; now and then measure and save.

It is the same for one process and for five hundred, for text and for a teacher: what differs is
in the `World`, and in the `Task`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.optim import AdamW

from edge.llama_config import LlamaConfig
from pretrain.assembly import assemble
from pretrain.checkpoints import Checkpoints
from pretrain.errors import PretrainError
from pretrain.evaluation import bits_per_byte
from pretrain.gradients import Gradients, alike
from pretrain.journal import Journal
from pretrain.materials import Materials
from pretrain.measures import flops_per_token, memory, peak_flops
from pretrain.recipe import Recipe
from pretrain.run import Run
from pretrain.schedule import rate
from pretrain.task import Task
from pretrain.texts import measured_on
from pretrain.world import World

__all__ = ["Training"]


class Training:
    """One process's part of a training.

    Args:
        recipe: its settings.
        materials: what it is made of.
        task: what is learned.
        folder: of the run: checkpoints and journal.
        world: the processes.
    """

    def __init__(
        self, recipe: Recipe, materials: Materials, task: Task, folder: Path, world: World
    ) -> None:
        self.recipe = recipe
        self.materials = materials
        self.task = task
        self.folder = folder
        self.world = world
        self.part = assemble(
            materials.config,
            materials.weights,
            task.objective,
            world,
            precision=recipe.precision,
            recompute=recipe.recompute,
        )
        task.attach(self.part)
        self.optimizer = self._optimizer()
        share = len(world.share(recipe.batch.sequences))
        self.gradients = Gradients(self.part, world, share, recipe.batch.together)
        self.origin = materials.origin.model_copy(update={"taught_by": task.taught_by})
        """What it is made of."""
        self.checkpoints = Checkpoints(Run(folder).checkpoints, recipe.sha256(), self.origin, world)
        self.step = self.checkpoints.restore(self.part, self.optimizer)
        """Steps done."""
        if self.step > recipe.schedule.steps:
            raise PretrainError("train.damaged", path=str(self.checkpoints.folder))
        self.metrics: dict[str, float] = {}
        """The last measurement on held-out text."""

    def run(self, tell: Callable[[int, float, float], object], stopped: Callable[[], bool]) -> bool:
        """Train to the end, or until `stopped`; then all is saved.

        Args:
            tell: called in the first process with steps done, loss in nats and tokens a second.
            stopped: asked before the first step and after each, in every process; one that says
                so is enough.

        Returns:
            Whether it is finished.

        Raises:
            PretrainError: it diverged, or cannot be saved.
        """
        recipe, world = self.recipe, self.world
        if world.any(stopped())[0]:  # as it started: there is nothing yet to save
            return False
        journal = Journal(self.folder, self.step) if world.first else None
        speed = _Speed(recipe, self.materials.config, world)
        saved = time.monotonic()
        try:
            while True:
                if self._to_measure():
                    if not self._measure(journal, stopped):
                        self.checkpoints.save(self.step, self.part, self.optimizer)
                        return False
                    speed.rest()
                if self.step == recipe.schedule.steps:
                    return True
                loss, norm = self._update()
                figures = {"loss": loss, "norm": norm, **speed.figures()}
                if journal is not None:
                    journal.write(self.step, {"rate": self._rate(self.step - 1), **figures})
                    tell(self.step, loss, figures["tokens_per_s"] or 0.0)
                stop, late = world.any(stopped(), time.monotonic() - saved > recipe.save_every_s)
                if stop or late:
                    self.checkpoints.save(self.step, self.part, self.optimizer)
                    saved = time.monotonic()
                    speed.rest()
                if stop:
                    return False
        finally:
            if journal is not None:
                journal.close()

    def _update(self) -> tuple[float, float]:
        """One step; its loss in nats, and the norm of its gradient before it was cut."""
        batch = self.recipe.batch.sequences
        share = self.world.share(batch)
        first = self.step * batch
        indices = range(first + share.start, first + share.stop)
        ids = self._read(indices)
        for group in self.optimizer.param_groups:
            group["lr"] = self._rate(self.step)
        # Whoever does not compute the loss need not know what it compares with.
        wanted = self.task.wanted(indices, ids) if self.part.last else {}
        loss = self.gradients.compute(ids[:, :-1], wanted)
        norm = self.gradients.clip(self.recipe.optimizer.clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.step += 1
        if not math.isfinite(float(loss)) or not math.isfinite(float(norm)):
            raise PretrainError("train.diverged", step=self.step)
        return float(loss), float(norm)

    def _read(self, indices: range) -> Tensor:
        """Sequences [B, T + 1] of these indices."""
        rows = np.stack([self.materials.order[index] for index in indices])
        return torch.from_numpy(rows).long().to(self.world.device)

    def _rate(self, step: int) -> float:
        return rate(self.recipe.schedule, step)

    def _to_measure(self) -> bool:
        """Whether it is time to: every so many steps, and behind the last in any case."""
        every, steps = self.recipe.evaluate_every, self.recipe.schedule.steps
        return self.step == steps or bool(every and self.step and self.step % every == 0)

    def _measure(self, journal: Journal | None, stopped: Callable[[], bool]) -> bool:
        """Whether it was measured to the end."""
        found = bits_per_byte(
            self.gradients,
            self.world,
            self.materials.held_out,
            length=self.materials.order.length,
            batch=self.recipe.batch.sequences,
            tokens=self.recipe.evaluation_tokens,
            stopped=stopped,
        )
        if found is None:
            return False
        self.metrics = {f"bits per byte, {name}": bits for name, bits in found.items()}
        if journal is not None and found:
            on = measured_on(self.materials.held_out, self.recipe.evaluation_tokens)
            journal.write_measurement(self.step, found, on)
        return True

    def _optimizer(self) -> AdamW:
        """AdamW in groups of parameters that decay alike, and lie alike in the processes."""
        settings = self.recipe.optimizer
        groups = []
        for alone in alike(self.part.parameters()).values():
            for matrices in (True, False):
                some = [each for each in alone if (each.ndim > 1) == matrices]
                if some:
                    decay = settings.weight_decay if matrices else 0.0
                    groups.append({"params": some, "weight_decay": decay})
        return AdamW(groups, betas=settings.betas, eps=settings.eps)


class _Speed:
    """Tokens a second since the last step, and what that is of what the devices can do."""

    def __init__(self, recipe: Recipe, config: LlamaConfig, world: World) -> None:
        self._tokens = recipe.batch.sequences * recipe.data.length
        self._flops = flops_per_token(config, recipe.data.length)
        peak = peak_flops(world.device)
        # Processes on one CPU share its cores, of which each has measured its own.
        self._peak = None if peak is None else peak * world.parallel.processes
        self._device = world.device
        self._last = time.monotonic()

    def rest(self) -> None:
        """What was done since the last step is none."""
        self._last = time.monotonic()

    def figures(self) -> dict[str, float | None]:
        now = time.monotonic()
        rate = self._tokens / max(now - self._last, 1e-9)
        self._last = now
        return {
            "tokens_per_s": rate,
            "mfu": None if self._peak is None else rate * self._flops / self._peak,
            "memory_bytes": memory(self._device),
        }
