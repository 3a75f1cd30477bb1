"""What decides how fast a board runs a model: how fast it reads memory, how fast it multiplies."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from edge.device import Device

__all__ = ["HERE", "Board", "boards"]

HERE = "here"
"""By which this machine is asked for."""

_FILE = Path(__file__).with_name("boards.toml")
_GB = 1_000_000_000
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Board(BaseModel):
    """A board, or this machine, by measured constants."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    """By which it is asked for."""
    title: str
    """Its name as people write it."""
    names: tuple[str, ...] = ()
    """Other spellings, in lower case."""
    arch: str
    """As `uname -m`."""
    flags: frozenset[str] = frozenset()
    """Features of the processor that the runtime has kernels for, by Linux's names."""
    memory_gb: tuple[Positive, ...]
    """Main memory of its models, the smallest first, in GB of 10⁹ bytes."""
    bandwidth_gb_per_s: Positive
    """What decode reads of weights and KV cache, in GB of 10⁹ bytes a second; its
    source is a text, `boards.toml`."""
    bandwidths: dict[str, Positive] = {}
    """The same by quantization, as far as measured: unpacking weights takes time, too."""
    gops: dict[str, Positive] = {}
    """What prefill computes, in 10⁹ operations a second, by quantization as far as measured."""
    gops_source: str | None = None
    """Where those are from."""

    def device(self, memory_gb: float) -> Device:
        """A board of this kind with so much memory, as the runtime sees it after a start.

        Args:
            memory_gb: its main memory, in GB of 10⁹ bytes.
        """
        total = int(memory_gb * _GB)
        return Device.started(
            self.title, self.arch, self.title, self.flags, total=total, taken=_SYSTEM
        )


_SYSTEM = 120_000_000
"""Bytes that a system without a desktop takes for itself; an assumption. What the terminal and
others need, `edge.plan.budget` reserves besides."""


@cache
def boards() -> dict[str, Board]:
    """The boards of `boards.toml` by name, in the order of the file."""
    tables = tomllib.loads(_FILE.read_text(encoding="utf-8"))
    return {name: Board(name=name, **table) for name, table in tables.items()}
