"""The models that Lucie knows by name: where they come from and what is known of them.

Plain dataclasses, as `lucie models list` and `lucie doctor` pay for what is
imported here: pydantic alone would cost 150 ms on a desktop.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

__all__ = ["Entry", "catalog", "entry_of_hash"]

_FILE = Path(__file__).with_name("catalog.toml")


@dataclass(frozen=True, slots=True)
class Entry:
    """One model of `catalog.toml`."""

    name: str
    title: str
    """Its name as people write it."""
    sources: tuple[str, ...]
    """Where to get the file, best first: `hf:owner/repo/file@revision`,
    `pypi:package==version/path/in/wheel`."""
    licence: str
    """SPDX identifier."""
    languages: tuple[str, ...]
    """ISO 639 codes, the strongest first."""
    parameters: int
    context: int
    """Tokens of context that it was trained for."""
    memory: int
    """Bytes of memory that running it takes at 2,048 tokens of context."""
    notes: Mapping[str, str]
    """What a person should know before choosing it, by language."""
    data: tuple[Mapping[str, Any], ...]
    """What it was trained on; the fields of `edge.manifest.DataSource`."""
    sha256: str | None = None
    """None: recorded at the first download."""
    size: int | None = None
    """Bytes of the file, exactly."""
    about: int | None = None
    """Bytes of the file as its publisher rounds them, where `size` is not known."""
    sampling: Mapping[str, Any] = field(default_factory=dict)
    """What it answers best with, where it differs: fields of `edge.engine.Sampling`."""


@cache
def catalog() -> Mapping[str, Entry]:
    """All entries by name, in the order of the file: the smallest model is the default."""
    tables = tomllib.loads(_FILE.read_text(encoding="utf-8"))
    return {name: _entry(name, table) for name, table in tables.items()}


def entry_of_hash(sha256: str) -> Entry | None:
    """The entry whose file has this hash, however the file came here."""
    return next((entry for entry in catalog().values() if entry.sha256 == sha256), None)


def _entry(name: str, table: dict[str, Any]) -> Entry:
    for key in ("sources", "languages", "data"):
        table[key] = tuple(table[key])
    return Entry(name=name, **table)
