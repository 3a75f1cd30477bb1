"""What a request's JSON schema may ask for, checked before native code compiles it.

llguidance limits its work, but some requests of a few characters get around its
limits (measured on version 1.9.1): a `multipleOf` takes time and memory in
proportion to its value, two that must hold together to their product; patterns
that must hold together take time exponential in their number; patterns of
property names are compared each with each.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from edge.errors import UsageError
from edge.text import one_line

__all__ = ["check_schema"]

_MAX_CHARACTERS = 65_536
_MAX_DEPTH = 64
_MAX_DIVISOR = 5_000
_MAX_COMBINED_PATTERNS = 4
_MAX_NAME_PATTERNS = 64
# Keywords that constrain nothing, so that what stands beside them is not combined.
_ANNOTATIONS = frozenset(
    {"$schema", "$id", "$comment", "$defs", "definitions", "title", "description", "default",
     "examples", "type"}
)  # fmt: skip


_BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
_MAX_BOUND = 2**63
"""llguidance keeps bounds of integers in 64 bits, and takes the nearest for those beyond."""


@dataclass
class _Tally:
    """What is found in a schema, as far as its cost depends on it."""

    combines: bool = False
    """Whether parts of it must hold together: allOf, or $ref or anyOf beside other keywords."""
    patterns: int = 0
    name_patterns: int = 0
    divisors: list[int] = field(default_factory=list)


def check_schema(schema: dict[str, Any]) -> str:
    """The schema as JSON, once it is known to be small, self-contained and cheap to compile.

    Raises:
        UsageError: it is not; the text says what is wrong.
    """
    tally = _Tally()
    level: list[Any] = [schema]
    for _ in range(_MAX_DEPTH):
        inner: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                _check_keywords(item)
                _count(item, tally)
                inner += item.values()
            elif isinstance(item, list):
                inner += item
        level = inner
    if level:
        raise UsageError("schema.too-deep", most=_MAX_DEPTH)
    _check_tally(tally)
    try:
        source = json.dumps(schema, ensure_ascii=False, allow_nan=False)
        source.encode()
    except ValueError as error:  # an infinite or endless number, half a surrogate pair
        raise UsageError("schema.refused", reason=one_line(error)) from error
    if len(source) > _MAX_CHARACTERS:
        raise UsageError("schema.too-long", characters=len(source), most=_MAX_CHARACTERS)
    return source


# In `properties` a keyword may be a name, which stands before a schema: a dict. So each is
# taken for a keyword only where its value is of the kind that keywords have.


def _check_keywords(schema: dict[str, Any]) -> None:
    for name in _BOUNDS:
        bound = schema.get(name)
        if isinstance(bound, (int, float)) and _MAX_BOUND <= abs(bound) < math.inf:
            raise UsageError("schema.bound-too-large", keyword=name)
    reference = schema.get("$ref")
    if isinstance(reference, str) and not reference.startswith("#"):
        raise UsageError("schema.remote-ref", ref=one_line(reference))
    if isinstance(schema.get("oneOf"), list):
        raise UsageError("schema.one-of")
    if "x-guidance" in schema:  # llguidance's own options
        raise UsageError("schema.refused", reason="x-guidance")


def _count(schema: dict[str, Any], tally: _Tally) -> None:
    constraints = len(schema.keys() - _ANNOTATIONS)
    all_of = schema.get("allOf")
    branches = isinstance(schema.get("anyOf"), list) or isinstance(schema.get("$ref"), str)
    tally.combines |= constraints > 1 and (branches or isinstance(all_of, list))
    tally.combines |= isinstance(all_of, list) and len(all_of) > 1
    tally.patterns += sum(isinstance(schema.get(name), str) for name in ("pattern", "format"))
    names = schema.get("patternProperties")
    tally.name_patterns += len(names) if isinstance(names, dict) else 0
    divisor = schema.get("multipleOf")
    if isinstance(divisor, (int, float)) and math.isfinite(divisor):
        tally.divisors.append(_significant(divisor))


def _significant(number: float) -> int:
    """The digits of a number without its power of ten, which costs nothing: 5 for 0.05."""
    digits = Decimal(repr(number)).normalize().as_tuple().digits
    return int("".join(map(str, digits)))


def _check_tally(tally: _Tally) -> None:
    if tally.combines and tally.patterns > _MAX_COMBINED_PATTERNS:
        raise UsageError(
            "schema.combined-patterns", count=tally.patterns, most=_MAX_COMBINED_PATTERNS
        )
    if tally.name_patterns > _MAX_NAME_PATTERNS:
        raise UsageError("schema.name-patterns", count=tally.name_patterns, most=_MAX_NAME_PATTERNS)
    size = math.prod(tally.divisors) if tally.combines else sum(tally.divisors)
    if size > _MAX_DIVISOR:
        raise UsageError("schema.multiple-of", most=_MAX_DIVISOR)
