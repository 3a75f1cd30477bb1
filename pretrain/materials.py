"""What a training is made of: a shape, first weights, an order of texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edge.checkpoint import Checkpoint
from edge.llama_config import LlamaConfig
from pretrain.order import Order
from pretrain.origin import Origin
from pretrain.recipe import Recipe
from pretrain.shape import shape
from pretrain.texts import HeldOut, Texts
from pretrain.weights import Source, new, of_folder

__all__ = ["Materials", "prepared"]


@dataclass(frozen=True)
class Materials:
    """What a training is made of."""

    config: LlamaConfig
    """Shape of the model."""
    weights: Source
    """With which it begins."""
    order: Order
    """What it reads."""
    held_out: Sequence[HeldOut]
    """What it is measured on."""
    origin: Origin
    """Identities of all that; nobody teaches yet."""


def prepared(recipe: Recipe, texts: Texts) -> Materials:
    """What the training of a recipe is made of.

    Raises:
        LucieError: as `shape`.
    """
    config = shape(recipe, texts)
    start = recipe.model.start
    weights = new(config, recipe.seed) if start is None else of_folder(Checkpoint.open(Path(start)))
    order = texts.order(recipe)
    origin = Origin.of(recipe, order, config)
    return Materials(config, weights, order, texts.held_out, origin)
