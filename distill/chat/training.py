"""Training: TRL's `DistillationTrainer` lets the student answer, and compares word for word.

TRL 1.16 has two trainers for it (On-Policy Distillation of Language Models, 2306.13649).
`trl.experimental.gkd.GKDTrainer` mixes the student's answers with given ones by the flip of a
coin (`lmbda`), so it wants data sets with answers, which prompts have not, and it holds the logits
of both models for all tokens at once: 2 × batch × tokens × vocabulary. `DistillationTrainer` is
in TRL's stable part, takes prompts alone, and computes the same divergences in tiles. GKD's own
source sends those who are on-policy throughout there; so the on-policy share is always 1 here.

The trainer's own checkpoints are pickles, so it makes none; see `state.py`. What is drawn in a
step follows from the seed and its number: so what was stopped goes on to the same weights.
"""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import Dataset
from transformers import TrainerCallback
from trl import DistillationConfig, DistillationTrainer

from distill.chat.format import ChatFormat
from distill.chat.prompts import Prompt, read_prompts
from distill.chat.recipe import ChatRecipe
from distill.chat.saved import FILE, origin
from distill.chat.state import State
from distill.distillation import load_teacher
from distill.errors import DistillError
from edge.checkpoint import Checkpoint
from edge.torch_start import start
from pretrain.disk import written
from pretrain.journal import Journal, read_journal
from pretrain.origin import Origin
from pretrain.run import Run
from pretrain.schedule import rate

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM

__all__ = ["train"]

_MOST_NORM = 1.0
"""To which gradients are clipped."""
_NO_PROBABILITY = "probability tensor contains"
"""How torch says that it cannot draw an answer from NaN or infinity."""
_FIGURES = {
    "loss": "loss",
    "grad_norm": "norm",
    "learning_rate": "rate",
    "entropy": "entropy",
    "completions/mean_length": "answer_tokens",
}
"""TRL's names for what a step tells, and ours."""


class _StoppedError(Exception):
    """Nobody waits for it any more."""


class _Asked(Dataset[dict[str, Any]]):
    """The prompts in the order in which they are answered; each once before one comes again.

    Args:
        prompts: all of them.
        recipe: says how many are answered, and has the seed.
        begun: steps that are done.
    """

    def __init__(self, prompts: list[Prompt], recipe: ChatRecipe, begun: int) -> None:
        self._prompts = prompts
        self._first = begun * recipe.batch
        self._count = (recipe.steps - begun) * recipe.batch
        seed, n = recipe.seed, len(prompts)
        self._order = lru_cache(2)(
            lambda epoch: np.random.default_rng([seed, epoch]).permutation(n)
        )

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> dict[str, Any]:
        epoch, at = divmod(self._first + index, len(self._prompts))
        return {"prompt": self._prompts[self._order(epoch)[at]].messages}


class _Watch(TrainerCallback):
    """What happens beside the steps: seeds, figures, checkpoints, and the end.

    Args:
        recipe: what is trained.
        begun: steps that were done before.
        save: called with steps done, when it is time to.
        tell: called after each step with its number, its loss and tokens a second.
        stopped: whether nobody waits any more.
        journal: takes the figures.
    """

    def __init__(
        self,
        recipe: ChatRecipe,
        begun: int,
        save: Callable[[int], None],
        tell: Callable[[int, float, float], object],
        stopped: Callable[[], bool],
        journal: Journal,
    ) -> None:
        self._recipe, self._begun, self._step = recipe, begun, begun
        self._save, self._tell, self._stopped = save, tell, stopped
        self._journal = journal
        self._saved = self._last = time.monotonic()
        self._tokens = 0.0

    @property
    def last(self) -> int:
        """The last step that was done."""
        return self._step

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        """Make what is drawn in this step independent of what was before; or begin none."""
        step = self._begun + state.global_step
        if self._stopped():
            self._leave(step)
        torch.manual_seed(self._recipe.seed << 31 | step)

    def on_substep_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        """Leave a step unfinished, if nobody waits: it is done again from its beginning."""
        if self._stopped():
            self._leave(self._begun + state.global_step)

    def on_log(
        self,
        args: Any,  # noqa: ARG002
        state: Any,
        control: Any,  # noqa: ARG002
        logs: Any = None,
        **_: Any,
    ) -> None:
        """After each step; TRL's figures are there only now."""
        if "loss" not in logs:  # the summary at the end
            return
        step, loss = self._begun + state.global_step, logs["loss"]
        self._step = step
        if not math.isfinite(loss) or not math.isfinite(logs["grad_norm"]):
            raise DistillError("chat.diverged", step=step)
        now, tokens = time.monotonic(), state.num_input_tokens_seen
        speed = (tokens - self._tokens) / max(now - self._last, 1e-9)
        figures = {name: logs.get(theirs) for theirs, name in _FIGURES.items()}
        self._journal.write(step, figures | {"tokens_per_s": speed})
        self._tell(step, loss, speed)
        if step < self._recipe.steps and now - self._saved > self._recipe.save_every_s:
            self._save(step)
            self._saved = time.monotonic()
        self._last, self._tokens = time.monotonic(), tokens

    def _leave(self, step: int) -> None:
        if step:  # before the first there is nothing to save
            self._save(step)
        raise _StoppedError


def train(
    run: Run,
    recipe: ChatRecipe,
    tell: Callable[[int, float, float], object],
    stopped: Callable[[], bool],
) -> bool:
    """Train to the end and leave the result, or until `stopped`.

    Args:
        run: the folder of the training.
        recipe: what it is.
        tell: called after each step with its number, its loss and tokens a second.
        stopped: asked before each step, and within.

    Returns:
        Whether it is finished.

    Raises:
        LucieError: it diverged; a model, the prompts or what is to be taken up cannot be read.
    """
    start(torch, recipe.threads)
    prompts = read_prompts([Path(path) for path in recipe.prompts])
    made_of = origin(recipe, prompts)
    state = State(run.checkpoints / FILE, made_of)
    begun = state.step()
    student = load_teacher(Path(recipe.student), "float32")
    optimizer = AdamW(student.parameters(), lr=recipe.rate, betas=(0.9, 0.95), weight_decay=0.0)
    rates = LambdaLR(optimizer, lambda n: rate(recipe.schedule, begun + n) / recipe.rate)
    journal = Journal(run.folder, begun)

    def save(step: int) -> None:
        with written(run.folder):
            state.save(student, optimizer, step)

    watch = _Watch(recipe, begun, save, tell, stopped, journal)
    trainer = DistillationTrainer(
        student,
        load_teacher(Path(recipe.teacher)),
        args=_arguments(recipe, run),
        train_dataset=_Asked(prompts, recipe, begun),
        processing_class=ChatFormat.of(Checkpoint.open(Path(recipe.student))).as_tokenizer(),
        callbacks=[watch],
        optimizers=(optimizer, rates),
    )
    if begun:  # only now, as the trainer may have moved the model to another device
        state.restore(student, optimizer)
    try:
        trainer.train()
    except _StoppedError:
        return False
    except RuntimeError as error:
        if _NO_PROBABILITY in str(error):
            raise DistillError("chat.diverged", step=watch.last + 1) from error
        raise
    finally:
        journal.close()
    with written(run.folder):
        _leave(run, recipe, student, made_of)
    return True


def _arguments(recipe: ChatRecipe, run: Run) -> DistillationConfig:
    return DistillationConfig(
        output_dir=str(run.checkpoints),
        num_train_epochs=1,  # `_Asked` is as long as the training
        per_device_train_batch_size=recipe.micro_batch,
        gradient_accumulation_steps=recipe.batch // recipe.micro_batch,
        max_completion_length=recipe.answer,
        # Only the template ends a message, or begins one.
        chat_template_kwargs={"sanitize_control_tokens": True},
        temperature=recipe.temperature,
        beta=recipe.beta,
        max_grad_norm=_MOST_NORM,
        seed=recipe.seed,
        shuffle_dataset=False,
        disable_dropout=True,
        bf16=False,
        activation_checkpointing=False,
        logging_steps=1,
        logging_nan_inf_filter=False,  # it would hide that training has diverged
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=torch.cuda.is_available(),
    )


def _leave(run: Run, recipe: ChatRecipe, student: LlamaForCausalLM, made_of: Origin) -> None:
    """Write the result: weights, config, what was measured, and what it was made of."""
    draft = run.result.with_suffix(".tmp")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    weights = {name: p.detach().cpu().contiguous() for name, p in student.named_parameters()}
    if not all(bool(torch.isfinite(tensor).all()) for tensor in weights.values()):
        raise DistillError("chat.diverged", step=recipe.steps)
    save_file(weights, draft / "model.safetensors", {"format": "pt"})
    # As the student's folder has it, without what TRL has changed in memory.
    config = json.loads((Path(recipe.student) / "config.json").read_text(encoding="utf-8"))
    config.pop("torch_dtype", None)
    config["dtype"] = "float32"
    (draft / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
    run.leave_result(draft, _metrics(run), made_of)


def _metrics(run: Run) -> dict[str, float]:
    """Mean loss over the first and the last tenth of the steps, in nats a token of answers."""
    losses = [line["loss"] for line in read_journal(run.folder)]
    tenth = max(1, len(losses) // 10)
    return {
        "divergence in the first tenth": sum(losses[:tenth]) / tenth,
        "divergence in the last tenth": sum(losses[-tenth:]) / tenth,
    }
