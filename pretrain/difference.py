"""What two recipes differ in, for whoever takes a training up and is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice, takewhile
from typing import Any

from edge.text import one_line
from pretrain.recipe import BaseRecipe
from pretrain.words import say

__all__ = ["difference"]

_FIRST = 3
"""Fields that are named; of a recipe that is quite another, there are dozens."""
_WIDTH = 40
"""Characters of a value."""
_BEFORE = 12
"""Characters of long values that stay before the first in which they differ."""
_NONE = "–"


def difference(known: BaseRecipe, given: BaseRecipe) -> str:
    """The fields by which another thing is learned, as `seed 1 → 2, batch.sequences 8 → 4`.

    Args:
        known: the recipe of what has begun.
        given: the one that was given now, of the same kind.
    """
    before, now = dict(_fields(_learned(known))), dict(_fields(_learned(given)))
    names = [name for name in before | now if before.get(name) != now.get(name)]
    shown = [_change(name, before.get(name), now.get(name)) for name in islice(names, _FIRST)]
    if len(names) > _FIRST:
        shown.append(say("recipe.more-fields", count=len(names) - _FIRST))
    return ", ".join(shown)


def _learned(recipe: BaseRecipe) -> dict[str, Any]:
    return recipe.model_dump(mode="json", by_alias=True, exclude=recipe.watching)


def _fields(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Each value by its name with dots, as TOML has it, and of a list its number from 0.

    What is not given is left out.
    """
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    for key, each in inner:
        here = f"{name}.{key}" if name else str(key)
        if isinstance(each, (dict, list)):
            yield from _fields(each, here)
        elif each is not None:
            yield here, json.dumps(each, ensure_ascii=False)


def _change(name: str, before: str | None, now: str | None) -> str:
    start = 0
    if before and now and max(len(before), len(now)) > _WIDTH:
        alike = takewhile(lambda pair: pair[0] == pair[1], zip(before, now, strict=False))
        start = max(sum(1 for _ in alike) - _BEFORE, 0)
    return f"{name} {_short(before, start)} → {_short(now, start)}"


def _short(value: str | None, start: int) -> str:
    if value is None:
        return _NONE
    return ("…" if start else "") + one_line(value[start:], _WIDTH)
