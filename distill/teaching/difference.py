"""What makes a cache another one, for whoever asks for it again and is refused."""

from __future__ import annotations

from distill.teaching.cache_format import Identity
from distill.words import say

__all__ = ["difference"]

_NUMBERS = {"length": "data.length", "method": "--method", "words": "--words", "seed": "--seed"}
"""By what a person sets them."""


def difference(known: Identity, asked: Identity) -> str:
    """As `another teacher, --words 12 → 13`; what is alike so far is longer or shorter.

    Args:
        known: of what is there.
        asked: of what was asked for.
    """
    before, now = known.model_dump(), asked.model_dump()
    names = {name for name in before if before[name] != now[name]}
    if "length" in names:  # by which the order is another in any case
        names.discard("data")
    found = [say(f"cache.another-{n}") for n in ("teacher", "tokenizer", "data") if n in names]
    found += [f"{said} {before[n]} → {now[n]}" for n, said in _NUMBERS.items() if n in names]
    return ", ".join(found) or say("cache.another-size")
