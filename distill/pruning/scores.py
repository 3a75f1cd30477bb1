"""What importance of a model is known, as a bundle holds it.

importance.json         of which model, and on what it was measured
importance.safetensors  the figures
importance.svg          the same to look at

L layers, W channels of the residual stream, F of the FFN, Q query heads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from distill.errors import DistillError
from edge.bundle import Bundle
from edge.checkpoint import Checkpoint
from edge.llama_config import LlamaConfig

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["FACTS", "FIGURES", "PICTURE", "Facts", "Importance", "read_facts"]

FACTS, FIGURES, PICTURE = "importance.json", "importance.safetensors", "importance.svg"


class Facts(BaseModel):
    """`importance.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    teacher: str
    """`fingerprint` of the model that was measured."""
    tokens: int
    """On how many it was measured."""
    length: int
    """Tokens that were read together."""
    dtype: str
    """What was computed with."""
    texts: tuple[str, ...]
    """Languages and names of the texts, as `fr=FILE`."""
    loss_tokens: int
    """On how many the loss without each layer was measured; 0: it was not."""
    sha256: str = ""
    """Of the tokens that were read; empty: of a version that did not note it."""


@dataclass(frozen=True)
class Importance:
    """Figures of a model; the larger, the more it matters. `statistics` has the formulas."""

    width: NDArray[np.float64]
    """Scores of the residual stream behind each norm [2L + 1, W], in the order of use."""
    mean_square: NDArray[np.float64]
    """Energy of the residual stream in front of each norm [2L + 1, W]."""
    ffn: NDArray[np.float64]
    """Scores [L, F]."""
    heads: NDArray[np.float64]
    """Scores [L, Q]."""
    influence: NDArray[np.float64]
    """Block influence [L]."""
    distance: NDArray[np.float64]
    """Angular distance of the residual stream in front of any two layers, and behind the last
    [L + 1, L + 1]."""
    loss: NDArray[np.float64] | None = None
    """By how many nats a token the loss grows without each layer [L]; None: not measured."""

    @classmethod
    def read(cls, bundle: Bundle, checkpoint: Checkpoint, teacher: str) -> Self:
        """The figures in `bundle`, which must be those of a model.

        Args:
            bundle: opened and verified.
            checkpoint: the model.
            teacher: its fingerprint.

        Raises:
            DistillError: the bundle is of another kind or model, or damaged.
        """
        if bundle.manifest.kind != "importance":
            kind = bundle.manifest.kind
            raise DistillError("prune.importance-kind", path=str(bundle.path), kind=kind)
        facts = read_facts(bundle.path)
        if facts.teacher != teacher:
            raise DistillError(
                "prune.importance-other", path=str(bundle.path), model=str(checkpoint.path)
            )
        found = _figures(bundle.path)
        wanted = _shapes(checkpoint.config)
        for name, shape in wanted.items():
            figure = found.get(name)
            if figure is None and name == "loss":
                continue
            if figure is None or figure.shape != shape or not _finite(figure):
                raise DistillError("prune.importance-damaged", path=str(bundle.path), reason=name)
        return cls(**{name: found[name] for name in wanted if name in found})

    def write(self, path: Path) -> None:
        """Write the file `path` of figures."""
        from safetensors.numpy import save

        figures = {each.name: getattr(self, each.name) for each in fields(self)}
        path.write_bytes(save({name: f for name, f in figures.items() if f is not None}))


def read_facts(folder: Path) -> Facts:
    """What a bundle says of how it was measured.

    Raises:
        DistillError: it is damaged.
    """
    try:
        return Facts.model_validate_json((folder / FACTS).read_bytes())
    except (OSError, ValidationError) as error:
        raise DistillError("prune.importance-damaged", path=str(folder), reason=FACTS) from error


def _figures(folder: Path) -> Mapping[str, NDArray[np.float64]]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(folder / FIGURES)
    except (OSError, SafetensorError) as error:
        raise DistillError("prune.importance-damaged", path=str(folder), reason=FIGURES) from error


def _shapes(config: LlamaConfig) -> dict[str, tuple[int, ...]]:
    layers, width = config.num_hidden_layers, config.hidden_size
    return {
        "width": (2 * layers + 1, width),
        "mean_square": (2 * layers + 1, width),
        "ffn": (layers, config.intermediate_size),
        "heads": (layers, config.num_attention_heads),
        "influence": (layers,),
        "distance": (layers + 1, layers + 1),
        "loss": (layers,),
    }


def _finite(figure: NDArray[np.float64]) -> bool:
    import numpy as np

    return figure.dtype == np.float64 and bool(np.isfinite(figure).all())
