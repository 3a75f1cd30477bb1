"""From a model of the store to one that answers requests."""

from __future__ import annotations

import time
from collections.abc import Callable

from edge.catalog import catalog, entry_of_hash
from edge.chat import Chat
from edge.engine import Sampling
from edge.loading import load
from edge.plan import Chosen
from edge.scheduler import Scheduler
from edge.server.service import Loaded
from edge.store import Model

__all__ = ["load_model"]


def load_model(model: Model, chosen: Chosen, tell: Callable[[float], None]) -> Loaded:
    """Load `model` and start its scheduler.

    Args:
        model: what to load.
        chosen: what the user decided about it.
        tell: called with the fraction that is loaded.

    Raises:
        ModelError: it is damaged or not understood.
        MemoryRefusedError: it would not fit.
        EngineError: the engine refuses it.
    """
    engine, store, swap_bytes = load(model.weights, chosen, tell)
    return Loaded(
        name=model.name,
        engine=engine,
        scheduler=Scheduler(engine, engine.spec.n_parallel, store, swap_bytes),
        chat=Chat(engine.tokenizer, engine.tokenizer.template),
        created=int(time.time()),
        sampling=_sampling(model),
        model=model,
    )


def _sampling(model: Model) -> Sampling:
    """What the catalog knows this model to answer best with."""
    manifest = model.manifest
    if manifest is None:
        return Sampling()
    hashes = [entry_of_hash(file.sha256) for file in manifest.files.values()]
    entry = next(filter(None, hashes), catalog().get(model.name))
    return Sampling(**entry.sampling) if entry is not None else Sampling()
