"""Bits per byte of a model folder, as a training measures them on its way."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from distill.recipe import DistillRecipe
from edge.checkpoint import Checkpoint
from edge.progress import Count, Progress
from pretrain.assembly import assemble
from pretrain.evaluation import bits_per_byte
from pretrain.gradients import Gradients
from pretrain.objective import CrossEntropy
from pretrain.recipe import Parallel
from pretrain.texts import Texts
from pretrain.weights import of_folder
from pretrain.world import World

__all__ = ["measure_bits"]


def measure_bits(
    folder: Path, recipe: DistillRecipe, texts: Texts, progress: Progress
) -> Mapping[str, float]:
    """By language, on the held-out text that a training of the recipe is measured on, too.

    Args:
        folder: the model, in Hugging Face's layout.
        recipe: says how many tokens of each language, in sequences of what length, and with what
            precision they are read.
        texts: of the recipe.
        progress: called with sequences read and all of them.

    Raises:
        LucieError: the model cannot be read.
    """
    checkpoint = Checkpoint.open(folder)
    with World.joined(Parallel(threads=recipe.parallel.threads)) as world:
        part = assemble(
            checkpoint.config, of_folder(checkpoint), CrossEntropy(), world,
            precision=recipe.precision,
        )  # fmt: skip
        together, tokens = recipe.batch.together, recipe.evaluation_tokens
        length = recipe.data.length
        windows = [len(text.sequences(length, max(tokens // length, 1))) for text in texts.held_out]
        count = Count(sum(-(-each // together) for each in windows), progress)

        def passed() -> bool:
            count.add(1)
            return False

        found = bits_per_byte(
            Gradients(part, world, together, together), world, texts.held_out,
            length=length, batch=together, tokens=tokens, stopped=passed,
        )  # fmt: skip
    return found or {}
