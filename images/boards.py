"""The boards that images are for, and which models they have room for."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from edge.catalog import Entry, catalog
from edge.device import Device
from edge.plan import budget

__all__ = ["SYSTEM", "Board", "boards"]

_FILE = Path(__file__).with_name("boards.toml")
_GB = 1 << 30
SYSTEM = 160 << 20
"""Bytes that the firmware, Linux and the services of an image take: an allowance, until images
are built and measured."""


@dataclass(frozen=True, slots=True)
class Board:
    """A kind of board."""

    name: str
    """By which commands know it."""
    title: str
    """As people write it."""
    processor: str
    flags: frozenset[str]
    """Features that llama.cpp has libraries for, by Linux's names."""
    memory: tuple[float, ...]
    """Main memory of its models, the smallest first, in GB of 2³⁰ bytes."""
    imager: tuple[str, ...]
    """Tags of Raspberry Pi Imager for it; none: it does not know it."""

    def device(self, memory: float) -> Device:
        """One with so much memory, as the runtime sees it when an image has started.

        Args:
            memory: in GB of 2³⁰ bytes.
        """
        total = int(memory * _GB)
        return Device.started(
            self.title, "aarch64", self.processor, self.flags, total=total, taken=SYSTEM
        )

    def models(self, memory: float) -> list[Entry]:
        """Those of the catalogue that one with so much memory runs, the smallest first."""
        room = budget(self.device(memory))
        fitting = [entry for entry in catalog().values() if entry.memory <= room]
        return sorted(fitting, key=lambda entry: entry.memory)


@cache
def boards() -> dict[str, Board]:
    """All of them by name, in the order of the file."""
    tables = tomllib.loads(_FILE.read_text(encoding="utf-8"))
    return {
        name: Board(
            name=name,
            title=table["title"],
            processor=table["processor"],
            flags=frozenset(table["flags"]),
            memory=tuple(table["memory"]),
            imager=tuple(table["imager"]),
        )
        for name, table in tables.items()
    }
