"""A sequence of the engine, and what its KV cache holds."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field

__all__ = ["Held"]


@dataclass(eq=False, slots=True)
class Held:
    """One sequence of the engine and the tokens whose KV state it holds."""

    seq: int
    tokens: array[int] = field(default_factory=lambda: array("i"))
    pinned: int = 0
    """Length of its system prompt, in tokens."""
    busy: bool = True
    saved: bool = False
    """Whether the disk holds all of it."""
    doomed: bool = False
    """Whether nothing of it is kept when its request is done."""
    used: int = 0
    """When it was last used, as a running number."""
