"""Training: the rounded model learns to say what the floats say.

The loss is the mean KL divergence of its predictions from the floats', over every token of a
text (self-distillation, as for Gemma 3's QAT models); nothing is learned from the text itself.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.optim import AdamW

from quantize.errors import QuantizeError, QuantizeUsageError
from quantize.grid import GRIDS
from quantize.healing.state import gather, read_tensors, restore, save, weights, write_tensors
from quantize.healing.student import Student, healed, load
from quantize.healing.work import Work, damaged, read_array

if TYPE_CHECKING:
    import numpy as np
    from accelerate import Accelerator
    from numpy.typing import NDArray

__all__ = ["train"]

_SAVE_EVERY_S = 300.0
_MOST_NORM = 1.0
"""To which gradients are clipped."""
_TOGETHER = 4
"""Pieces whose activations are in memory at once."""


class _Training:
    """One process of a training.

    Args:
        work: has been prepared.
        source: the model folder.
        accelerator: what is computed where.
    """

    def __init__(self, work: Work, source: Path, accelerator: Accelerator) -> None:
        self.work = work
        self.recipe = work.recipe()
        self.accelerator = accelerator
        if self.recipe.batch % accelerator.num_processes:
            raise QuantizeUsageError(
                "heal.batch", batch=self.recipe.batch, processes=accelerator.num_processes
            )
        model = load(source)
        start: dict[str, Tensor] = {}
        for n in range(len(model.model.layers)):
            start |= read_tensors(work.layer(n))
        try:
            student = Student(model, start, GRIDS[self.recipe.bits])
        except (KeyError, RuntimeError) as error:  # of another model, or of another shape
            raise damaged(work.layer(0).parent, error) from error
        trained = [each for each in student.parameters() if each.requires_grad]
        optimizer = AdamW(trained, betas=(0.9, 0.95), weight_decay=0.0)
        self.model, self.optimizer = accelerator.prepare(student, optimizer)
        self.student: Student = accelerator.unwrap_model(self.model)
        self.pieces: NDArray[np.int32] = read_array(work.pieces)
        self.states: NDArray[np.float32] = read_array(work.states)
        if self.states.shape[:2] != self.pieces.shape:
            raise damaged(work.states, self.states.shape)
        self.step = 0
        if work.training.exists():
            self.step = restore(work.training, self.student, self.optimizer)

    def update(self, stopped: Callable[[], bool]) -> float | None:
        """One step of the recipe; its loss in nats, over all processes. None: it was stopped."""
        accelerator = self.accelerator
        chosen = self.recipe.pieces(self.step, len(self.pieces))
        mine = chosen[accelerator.process_index :: accelerator.num_processes]
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.rate(self.step)
        total = torch.zeros((), device=accelerator.device)
        for at in range(0, len(mine), _TOGETHER):
            if at and self.as_main_says(stopped())[0]:
                self.optimizer.zero_grad()
                return None
            some = mine[at : at + _TOGETHER]
            ids = torch.from_numpy(self.pieces[some]).long().to(accelerator.device)
            states = torch.from_numpy(self.states[some]).to(accelerator.device)
            share = len(some) / len(mine)
            # Processes exchange gradients when the last are there.
            last = at + _TOGETHER >= len(mine)
            with nullcontext() if last else accelerator.no_sync(self.model):
                loss = self.model(ids, states) * share
                accelerator.backward(loss)
            total += loss.detach()
        accelerator.clip_grad_norm_(self.model.parameters(), _MOST_NORM)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.step += 1
        loss = float(accelerator.reduce(total, "mean"))
        if not math.isfinite(loss):
            raise QuantizeError("heal.diverged", step=self.step)
        return loss

    def as_main_says(self, *answers: bool) -> list[bool]:
        """The main process's answers, in every process."""
        from accelerate.utils import broadcast

        said = torch.tensor(answers, dtype=torch.int32, device=self.accelerator.device)
        return [bool(answer) for answer in broadcast(said).tolist()]

    def save(self) -> None:
        """Leave all that going on takes; every process must call it."""
        state = gather(self.student, self.optimizer)
        if self.accelerator.is_main_process:
            save(self.work.training, state, self.step)
        self.accelerator.wait_for_everyone()

    def finish(self) -> None:
        """Leave the result: levels and scales of matrices, and norms, by names in the model."""
        trained = weights(self.student)
        if self.accelerator.is_main_process:
            write_tensors(self.work.healed, healed(self.student, trained))
            self.work.training.unlink(missing_ok=True)
        self.accelerator.wait_for_everyone()


def train(
    work: Work,
    source: Path,
    accelerator: Accelerator,
    tell: Callable[[int, int, float], object],
    stopped: Callable[[], bool],
) -> bool:
    """Train to the end, or until `stopped`; every few minutes all is saved.

    Args:
        work: has been prepared.
        source: the model folder.
        accelerator: what is computed where.
        tell: called by the main process with steps done, steps in all and a step's loss in nats.
        stopped: asked in every process now and then; the main process's answer counts.

    Returns:
        Whether it is finished.

    Raises:
        QuantizeError: it diverged; what is to be taken up is damaged.
    """
    training = _Training(work, source, accelerator)
    steps = training.recipe.steps
    saved = time.monotonic()
    while training.step < steps:
        loss = training.update(stopped)
        if loss is not None and accelerator.is_main_process:
            tell(training.step, steps, loss)
        stop = loss is None or stopped()
        late = time.monotonic() - saved > _SAVE_EVERY_S
        stop, late = training.as_main_says(stop, late)
        if 0 < training.step < steps and (stop or late):
            training.save()
            saved = time.monotonic()
        if stop and training.step < steps:
            return False
    training.finish()
    return True
