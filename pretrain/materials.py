"""What a training is made of: a shape, first weights, an order of texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edge.checkpoint import Checkpoint
from edge.llama_config import LlamaConfig
from pretrain.errors import PretrainUsageError
from pretrain.order import Order
from pretrain.recipe import Recipe
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


def prepared(recipe: Recipe, texts: Texts) -> Materials:
    """What the training of a recipe is made of.

    Raises:
        LucieError: the model cannot be read; its shape contradicts itself, or the tokenizer.
    """
    order = texts.order(recipe)
    if recipe.model.start is None:
        config = recipe.model.config(texts.vocabulary, recipe.data.length)
        return Materials(config, new(config, recipe.seed), order, texts.held_out)
    checkpoint = Checkpoint.open(Path(recipe.model.start))
    config = checkpoint.config
    _check(config, texts.vocabulary, recipe)
    return Materials(config, of_folder(checkpoint), order, texts.held_out)


def _check(config: LlamaConfig, vocabulary: int, recipe: Recipe) -> None:
    if vocabulary > config.vocab_size:
        raise PretrainUsageError(
            "train.vocabulary", tokens=vocabulary, rows=config.vocab_size, path=recipe.model.start
        )
    if recipe.data.length > config.max_position_embeddings:
        raise PretrainUsageError(
            "train.length", length=recipe.data.length, most=config.max_position_embeddings
        )
