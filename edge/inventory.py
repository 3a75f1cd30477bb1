"""Every model that there is, on this device or to be had, and whether it would run here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edge.catalog import Entry, catalog
from edge.device import Device
from edge.errors import LucieError, MemoryRefusedError
from edge.header import read_model
from edge.plan import Plan, budget, plan
from edge.store import Model, Store, default_model

__all__ = ["Item", "inventory"]


@dataclass(frozen=True, slots=True)
class Item:
    """One model."""

    name: str
    model: Model | None
    """None: it is not on this device."""
    entry: Entry | None
    """None: the catalog does not know it."""
    is_default: bool
    """Whether it is meant where none is named."""
    size: int | None
    """Bytes of its files; rounded where `entry` knows no better."""
    plan: Plan | None
    """How it would be loaded; None where it is not here, or would not fit."""
    problem: LucieError | None
    """Why it cannot be loaded."""
    fits: bool
    """Whether there is memory for it, as far as is known."""


def inventory(store: Store, device: Device) -> list[Item]:
    """The models of `store`, then those of the catalog that are not in it."""
    here = [_here(model, device) for model in store.list()]
    names = {item.name for item in here}
    return here + [_there(e, device) for e in catalog().values() if e.name not in names]


def _here(model: Model, device: Device) -> Item:
    made, problem = None, None
    size = _size(model.path)
    try:
        header = read_model(model.weights)
        size = header.file_size
        made = plan(header, device)
    except LucieError as error:
        problem = error
    return Item(
        name=model.name,
        model=model,
        entry=catalog().get(model.name),
        is_default=model.name == default_model(),
        size=size,
        plan=made,
        problem=problem,
        fits=not isinstance(problem, MemoryRefusedError),
    )


def _there(entry: Entry, device: Device) -> Item:
    return Item(
        name=entry.name,
        model=None,
        entry=entry,
        is_default=entry.name == default_model(),
        size=entry.size or entry.about,
        plan=None,
        problem=None,
        fits=entry.memory <= budget(device),
    )


def _size(path: Path) -> int:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files)
