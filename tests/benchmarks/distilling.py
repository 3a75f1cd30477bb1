"""Figure 15: a student taught on text by a teacher that reads along, against TRL's GKDTrainer.

The default model, in float32, teaches itself with another last norm: the same weights, tokens,
threads and optimizer on both sides, no padding. That the work is the same is seen from the loss of
the first step; GKD leaves out the last token of each sequence.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from distill.recipe import DistillRecipe
from pretrain.recipe_file import read_recipe
from pretrain.run import Run
from quantize.ggml.dequantize import write_checkpoint
from quantize.measuring.built_in_texts import CALIBRATION
from tests.benchmarks.measure import Row, Target, interleave, run_json
from tests.benchmarks.referee import Referee

__all__ = ["compared", "training"]

_RECIPE = """
evaluate_every = 0
evaluation_tokens = 1
save_every_s = 1e9
[model]
from = "student"
[teacher]
model = "model"
[data]
length = {length}
separator = "<|im_end|>"
[[data.mixture]]
path = "text.jsonl"
[batch]
sequences = 4
together = 4
[schedule]
steps = {steps}
rate = 1e-5
kind = "linear"
warmup = 0.0
last = 0.0
[parallel]
threads = {threads}
"""


def training(_: Referee, model: Path, runs: int) -> list[Row]:
    """Figure 15: 4 sequences of 256 tokens a step."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "model"
        folder.mkdir()
        write_checkpoint(model, folder)
        return compared(Path(place), runs, length=256, steps=8, threads=2)


def compared(place: Path, runs: int, *, length: int, steps: int, threads: int) -> list[Row]:
    """Rows of a comparison.

    Args:
        place: has the folder `model`, in one file of float32.
        runs: of each.
        length: tokens of a sequence.
        steps: of a run; the first are left out.
        threads: of each.
    """
    shutil.copytree(place / "model", place / "student")
    weights = load_file(place / "student" / "model.safetensors")
    weights["model.norm.weight"] *= np.float32(0.9)
    save_file(weights, place / "student" / "model.safetensors", {"format": "pt"})
    texts = [json.dumps({"text": each.path.read_text(encoding="utf-8")}) for each in CALIBRATION]
    (place / "text.jsonl").write_text("\n".join(texts), encoding="utf-8")
    path = place / "recipe.toml"
    said = _RECIPE.format(length=length, steps=steps, threads=threads)
    path.write_text(said, encoding="utf-8")
    recipe = read_recipe(DistillRecipe, path)

    def train(which: str) -> Any:
        with tempfile.TemporaryDirectory(dir=place) as folder:
            Run(Path(folder)).begin(recipe)
            worker = [sys.executable, "-m", "tests.benchmarks.distil_worker", which, folder]
            return run_json(worker, {"OMP_NUM_THREADS": str(threads)})

    found = interleave(lambda: train("ours"), lambda: train("peer"), runs=runs)
    ours, theirs = ({name: [run[name] for run in each] for name in each[0]} for each in found)
    by = "GKDTrainer of trl 1.16, beta=0, lmbda=0"
    what = f"distilling, 4 × {length} tokens a step"
    return [
        Row(15, what, "steps/s", ours["steps_per_s"], theirs["steps_per_s"], by,
            Target(1, at_least=True)),
        Row(15, "its peak memory", "MiB", ours["peak_mib"], theirs["peak_mib"], by, Target(1)),
        Row(15, "loss of the first step", "nats", ours["loss"], theirs["loss"], by),
    ]  # fmt: skip
