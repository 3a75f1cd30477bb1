"""Distils in a process of its own: `python -m tests.benchmarks.distil_worker ours|peer RUN`.

RUN holds the recipe of a distillation. `ours` is what `lucie distill train` runs; `peer` is TRL's
GKDTrainer on the same tokens: beta 0 is forward KL, lmbda 0 lets nobody generate. Prints one JSON
object: steps a second, loading and the first steps left out; peak memory; the first step's loss.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from distill.recipe import DistillRecipe
from pretrain.run import Run
from tests.benchmarks.measure import peak_mib

__all__: list[str] = []

_WARM_UP = 2
Told = Callable[..., None]


def main() -> None:
    """Train; measure; print."""
    which, run = sys.argv[1], Run(Path(sys.argv[2]))
    os.environ |= {"HF_HUB_OFFLINE": "1", "TRL_EXPERIMENTAL_SILENCE": "1"}
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries that print do not disturb
    times: list[float] = []
    losses: list[float] = []

    def told(loss: float) -> None:
        times.append(time.perf_counter())
        losses.append(loss)

    {"ours": _ours, "peer": _peer}[which](run, told)
    steps = [after - before for before, after in pairwise(times)][_WARM_UP:]
    found = {"steps_per_s": 1 / median(steps), "peak_mib": peak_mib(os.getpid()), "loss": losses[0]}
    out.write(json.dumps(found) + "\n")
    out.close()


def _ours(run: Run, told: Told) -> None:
    from distill.distillation import make_task
    from pretrain.worker import work

    reader, _ = os.pipe()
    os.dup2(reader, 0)  # somebody waits
    work([str(run.folder)], DistillRecipe, make_task, lambda *facts: told(facts[2]))


def _peer(run: Run, told: Told) -> None:
    import torch
    from datasets import Dataset
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast, TrainerCallback
    from trl.experimental.gkd import GKDConfig, GKDTrainer

    from distill.distillation import load_teacher
    from pretrain.texts import read_texts

    recipe = run.read(DistillRecipe)
    torch.set_num_threads(recipe.parallel.threads)
    order = read_texts(recipe, lambda *_: None).order(recipe)
    steps, batch = recipe.schedule.steps, recipe.batch.sequences
    rows = [order[n][:-1].tolist() for n in range(steps * batch)]

    def collate(rows: list[dict[str, Any]]) -> dict[str, Any]:
        ids = torch.tensor([row["input_ids"] for row in rows])
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids.clone()}

    class Watch(TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if "loss" in logs:
                told(logs["loss"])

    student = LlamaForCausalLM.from_pretrained(
        recipe.model.start, dtype=torch.float32, local_files_only=True
    )
    GKDTrainer(
        student,
        load_teacher(Path(recipe.teacher.model)),
        args=GKDConfig(
            output_dir=str(run.folder / "peer"),
            max_steps=steps,
            per_device_train_batch_size=batch,
            learning_rate=recipe.schedule.rate,
            adam_beta1=recipe.optimizer.betas[0],
            adam_beta2=recipe.optimizer.betas[1],
            weight_decay=recipe.optimizer.weight_decay,
            max_grad_norm=recipe.optimizer.clip,
            beta=0.0,
            lmbda=0.0,
            bf16=False,
            gradient_checkpointing=False,
            train_sampling_strategy="sequential",
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            dataloader_pin_memory=False,
        ),
        data_collator=collate,
        train_dataset=Dataset.from_list([{"input_ids": ids} for ids in rows]),
        processing_class=PreTrainedTokenizerFast(
            tokenizer_file=str(recipe.tokenizer_path / "tokenizer.json"),
            eos_token=recipe.data.separator,
            pad_token=recipe.data.separator,
        ),
        callbacks=[Watch()],
    ).train()


if __name__ == "__main__":
    main()
