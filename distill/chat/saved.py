"""What a chat stage can be taken up from, as far as it is known without torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from safetensors import SafetensorError, safe_open

from distill.chat.prompts import Prompt, identity
from distill.chat.recipe import ChatRecipe
from edge.checkpoint import Checkpoint
from pretrain.identity import fingerprint
from pretrain.origin import Origin

__all__ = ["FILE", "STEP", "origin", "saved_step"]

FILE = "training.safetensors"
"""Among the checkpoints of its run."""
STEP = "step"
"""The fact that says how many steps are done."""


def origin(recipe: ChatRecipe, prompts: Sequence[Prompt]) -> Origin:
    """What it is made of, as things lie now.

    Raises:
        CheckpointError: a model cannot be read.
    """
    return Origin(
        data=identity(prompts),
        taught_by=fingerprint(Checkpoint.open(Path(recipe.teacher))),
        begun_with=fingerprint(Checkpoint.open(Path(recipe.student))),
    )


def saved_step(checkpoints: Path) -> int:
    """Steps that are done; 0, too, where it is damaged, as who takes it up will tell."""
    try:
        with safe_open(checkpoints / FILE, framework="np") as file:
            return int((file.metadata() or {})[STEP])
    except (SafetensorError, OSError, KeyError, ValueError):
        return 0
