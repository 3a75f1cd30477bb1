"""The model that is named for a card."""

from __future__ import annotations

from pathlib import Path

from edge.errors import ModelError
from edge.store import Model, Store
from images.errors import ImageError

__all__ = ["model_for_a_card"]

_KIND = "gguf"
"""Of bundles that a board runs: the engine there is llama.cpp."""


def model_for_a_card(name: str | None) -> Model:
    """The model of that name or path, or the default one; whether it is whole is checked later.

    Raises:
        ImageError: its bundle holds something else.
        ModelError: it is not here, or damaged.
    """
    try:
        model = Store().find(name)
    except ModelError as error:
        if error.code == "store.not-runnable":
            _require_model(Path(error.facts["path"]))
        raise
    if model.folder is not None:
        _require_model(model.folder)
    return model


def _require_model(folder: Path) -> None:
    from edge.bundle import Bundle

    kind = Bundle.open(folder, verify=False).manifest.kind
    if kind != _KIND:
        raise ImageError("build.no-model", path=str(folder), kind=kind)
