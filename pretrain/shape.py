"""The shape that a recipe trains, and whether its processes can share it."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from edge.checkpoint import Checkpoint
from edge.llama_config import LlamaConfig
from pretrain.errors import PretrainUsageError
from pretrain.recipe import Parallel, Recipe
from pretrain.recipe_file import wrong
from pretrain.texts import Texts

__all__ = ["check_shape", "shape"]


def shape(recipe: Recipe, texts: Texts) -> LlamaConfig:
    """The shape of the model.

    Args:
        recipe: the training.
        texts: what it reads, by the tokenizer's tokens.

    Raises:
        LucieError: the model that it goes on with cannot be read; the shape contradicts itself,
            or the tokenizer, or cannot be shared out as the recipe asks.
    """
    known = recipe.model.start or recipe.model.like
    if known is None:
        config = _new(recipe, texts.vocabulary, texts.end)
    else:
        config = Checkpoint.open(Path(known)).config
    check_shape(config, recipe, texts)
    return config


def check_shape(config: LlamaConfig, recipe: Recipe, texts: Texts) -> None:
    """Refuse a shape that a recipe cannot train.

    Raises:
        PretrainUsageError: it contradicts the tokenizer or itself, is made for shorter texts, or
            cannot be shared out as the recipe asks.
    """
    vocabulary = texts.vocabulary
    if vocabulary > config.vocab_size:
        raise PretrainUsageError(
            "train.vocabulary",
            tokens=vocabulary,
            rows=config.vocab_size,
            path=str(recipe.tokenizer_path),
        )
    if recipe.data.length > config.max_position_embeddings:
        most = config.max_position_embeddings
        raise PretrainUsageError("train.length", length=recipe.data.length, most=most)
    if config.hidden_size % config.num_attention_heads:  # transformers refuses it
        raise PretrainUsageError(
            "train.heads", size=config.hidden_size, heads=config.num_attention_heads
        )
    _check_shares(config, recipe.parallel)
    _check_batch(recipe)


def _new(recipe: Recipe, vocabulary: int, end: int) -> LlamaConfig:
    """The shape of a new model whose fields are given; `end` ends what it writes."""
    usual = {"tie_word_embeddings": True, "max_position_embeddings": recipe.data.length}
    fields = usual | {"vocab_size": vocabulary} | recipe.model.shape()
    theta = fields.pop("rope_theta", 10_000.0)
    fixed = {
        "architectures": ["LlamaForCausalLM"], "rms_norm_eps": 1e-5, "eos_token_id": end,
    }  # fmt: skip
    rope = {"rope_parameters": {"rope_type": "default", "rope_theta": theta}}
    try:
        return LlamaConfig.model_validate(fields | fixed | rope)
    except ValidationError as error:
        raise wrong(error, "model") from None


def _check_shares(config: LlamaConfig, parallel: Parallel) -> None:
    shared = {
        "num_key_value_heads": config.num_key_value_heads,
        "intermediate_size": config.intermediate_size,
        "vocab_size": config.vocab_size,
    }
    for field, size in shared.items():
        if size % parallel.tensor:
            raise PretrainUsageError("train.tensor", field=field, size=size, parts=parallel.tensor)
    if parallel.pipeline > config.num_hidden_layers:
        raise PretrainUsageError(
            "train.pipeline", layers=config.num_hidden_layers, parts=parallel.pipeline
        )


def _check_batch(recipe: Recipe) -> None:
    share, parts = recipe.batch.sequences // recipe.parallel.data, recipe.parallel.pipeline
    if share < parts:
        raise PretrainUsageError("train.pipeline-batch", sequences=share, parts=parts)
