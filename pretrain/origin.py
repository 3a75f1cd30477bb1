"""What a training was made of, by identities: what is finished is not taken for something else.

A recipe names places. What lies there may be another text, teacher or model by the next time that
the same is asked for; checkpoints, results and manifests say which it was.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from edge.bundle import Bundle
from edge.checkpoint import Checkpoint
from edge.llama_config import LlamaConfig
from pretrain.errors import PretrainError
from pretrain.identity import fingerprint
from pretrain.order import Order
from pretrain.recipe import Recipe

__all__ = ["ORIGIN", "Origin", "origin_of"]

ORIGIN = "origin"
"""Where it stands: so is a result's file called, with `.json`, and a key of a manifest's recipe."""


class Origin(BaseModel):
    """What a training is made of."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: str
    """Identity of what it reads, and in which order."""
    taught_by: str
    """Identity of who teaches; empty: nobody."""
    begun_with: str = ""
    """Identity of the first weights; empty: of a version that did not note it."""

    @classmethod
    def of(cls, recipe: Recipe, order: Order, config: LlamaConfig, taught_by: str = "") -> Origin:
        """What the training of a recipe is made of, as things lie now.

        Args:
            recipe: the training.
            order: in which it reads.
            config: its shape.
            taught_by: identity of who teaches; empty: nobody.

        Raises:
            CheckpointError: the model that it begins with cannot be read.
        """
        first = _first_weights(recipe, config)
        return cls(data=order.identity, taught_by=taught_by, begun_with=first)

    def other(self, now: Origin) -> str | None:
        """What is another one now: `other-data`, `other-teacher` or `other-start`, as texts say it.

        None: nothing, as far as it is noted.
        """
        pairs = {
            "other-data": (self.data, now.data),
            "other-teacher": (self.taught_by, now.taught_by),
            "other-start": (self.begun_with, now.begun_with),
        }
        return next((name for name, (was, is_) in pairs.items() if was and was != is_), None)


def origin_of(folder: Path) -> Origin | None:
    """What the bundle of a training says of its own; None: a version made it that did not note it.

    Raises:
        LucieError: the bundle, or what it says, is damaged.
    """
    told = Bundle.open(folder, verify=False).manifest.recipe.get(ORIGIN)
    try:
        return None if told is None else Origin.model_validate(told)
    except ValidationError as error:
        raise PretrainError("train.damaged-result", path=str(folder)) from error


def _first_weights(recipe: Recipe, config: LlamaConfig) -> str:
    """Of a folder; new ones follow from their shape, and the recipe's seed."""
    if recipe.model.start is not None:
        return fingerprint(Checkpoint.open(Path(recipe.model.start)))
    return hashlib.sha256(json.dumps(config.as_json(), sort_keys=True).encode()).hexdigest()
