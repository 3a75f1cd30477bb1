"""Tasks whose answers are right or wrong, asked by the harness that the field uses.

EleutherAI's lm-evaluation-harness asks and scores; the items lie in `tasks/`, so that no network
is needed. It works in a process of its own, in which its libraries may say what they like.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from distill.errors import DistillError
from distill.report.entries import Accuracy, Task
from edge.checkpoint import Checkpoint
from edge.progress import Progress
from edge.torch_start import start
from quantize.checkpoint.complete import complete
from quantize.own_process import DiedError, Tell, in_own_process

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

__all__ = ["TASKS", "measure_accuracy"]

_FOLDER = Path(__file__).with_name("tasks")
TASKS: tuple[Task, ...] = get_args(Task)
_BATCH = 16
_LONGEST = 512
"""Tokens of an item at most; all are shorter."""


def measure_accuracy(
    folder: Path, items: int, threads: int, progress: Progress
) -> dict[Task, Accuracy]:
    """What part of the items of each task a model answers right.

    Args:
        folder: the model, in Hugging Face's layout.
        items: the most to ask of each task; 0: none.
        threads: to compute with; 0: as many as torch likes.
        progress: called with answers weighed and all of them.

    Raises:
        CheckpointError: the model is not whole.
        DistillError: the process died.
    """
    if not items:
        return {}
    complete(Checkpoint.open(folder))  # transformers would fill what is missing at random
    asked = {name: _items(name)[:items] for name in TASKS}
    total = sum(len(item["choices"]) for some in asked.values() for item in some)
    done = 0

    def told(n: int) -> None:
        nonlocal done
        done = min(done + n, total)
        progress(done, total)

    progress(0, total)
    try:
        found: dict[str, Mapping[str, float]] = in_own_process(
            _ask, folder, asked, threads, told=told
        )
    except DiedError as error:
        raise DistillError("report.died", path=str(folder), how=error.how) from error
    progress(total, total)  # answers of one token to one question are weighed at once
    return {
        name: Accuracy(
            value=found[name]["acc,none"],
            error=found[name]["acc_stderr,none"],
            chance=sum(1 / len(item["choices"]) for item in some) / len(some),
            items=len(some),
        )
        for name, some in asked.items()
    }


def _items(name: str) -> list[dict[str, Any]]:
    lines = (_FOLDER / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def _ask(
    tell: Tell, folder: Path, asked: Mapping[str, list[dict[str, Any]]], threads: int
) -> dict[str, Any]:
    """What the harness found; in the other process."""
    import logging
    import os
    from contextlib import redirect_stderr

    os.environ |= {
        "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false",
        "TRANSFORMERS_VERBOSITY": "error",
    }  # fmt: skip
    logging.disable(logging.WARNING)
    import torch
    from lm_eval import evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager
    from transformers import LlamaForCausalLM

    start(torch, threads)

    class Model(HFLM):  # type: ignore[misc]
        """One that tells how far it is."""

        def _model_call(self, inps: torch.Tensor, *others: Any, **more: Any) -> torch.Tensor:
            logits: torch.Tensor = super()._model_call(inps, *others, **more)
            tell(len(inps))
            return logits

    # Their bars would stand beside ours.
    with torch.inference_mode(), Path(os.devnull).open("w") as nowhere, redirect_stderr(nowhere):
        model = LlamaForCausalLM.from_pretrained(
            folder,
            dtype="auto" if torch.cuda.is_available() else torch.float32,  # quickest
            device_map="cuda" if torch.cuda.is_available() else None,
            local_files_only=True,
            use_safetensors=True,
        )
        spoken = Model(
            pretrained=model,
            tokenizer=_tokenizer(folder, model.config.eos_token_id),
            batch_size=_BATCH,
            max_length=min(_LONGEST, model.config.max_position_embeddings),
        )
        tasks = [_task(name, some) for name, some in asked.items()]
        # `simple_evaluate` would have git look at the folder that the user is in.
        found = evaluate(spoken, TaskManager(include_defaults=False).load(tasks), log_samples=False)
    return {name: dict(found["results"][name]) for name in asked}


def _tokenizer(folder: Path, ends: int | list[int] | None) -> PreTrainedTokenizerFast:
    """Of `tokenizer.json` alone; behind a text's end begins the next, as in training."""
    from transformers import PreTrainedTokenizerFast

    end = ends[0] if isinstance(ends, list) else ends or 0
    make: Any = PreTrainedTokenizerFast  # which has no types
    tokenizer: PreTrainedTokenizerFast = make(tokenizer_file=str(folder / "tokenizer.json"))
    tokenizer.eos_token = tokenizer.convert_ids_to_tokens(end)
    return tokenizer


def _task(name: str, items: list[dict[str, Any]]) -> dict[str, Any]:
    """A task as the harness wants it described."""
    from datasets import Dataset

    return {
        "task": name,
        "custom_dataset": lambda **_: {"test": Dataset.from_list(items)},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "context",
        "doc_to_choice": "choices",
        "doc_to_target": "label",
        "target_delimiter": "",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    }
