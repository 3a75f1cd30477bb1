"""What is wrong with a value that was checked by pydantic, in the user's language."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge.messages import text
from edge.quantity import count_text
from edge.text import one_line

if TYPE_CHECKING:
    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

__all__ = ["BOUNDS", "fault_text"]

BOUNDS = {
    "greater_than": ("gt", ">"),
    "greater_than_equal": ("ge", "≥"),
    "less_than": ("lt", "<"),
    "less_than_equal": ("le", "≤"),
}
"""For pydantic's types of error about bounds: the name of the bound in its context, and a sign."""
_KINDS = {
    "int": "whole",
    "float": "number",
    "finite": "number",
    "bool": "boolean",
    "string": "text",
    "tuple": "list",
    "list": "list",
    "model": "table",
    "dict": "table",
}
"""What is wanted, by the word with which pydantic's types of error begin."""
_ENTRIES = {
    "missing": "missing",
    "extra_forbidden": "unknown",
    "string_pattern_mismatch": "form",
    "string_too_short": "empty",
    "string_too_long": "long-text",
    "too_short": "short",
    "too_long": "long",
    "json_invalid": "json",
}
_UNION = ("int", "list[int]")
"""What pydantic puts behind a field that may be one or several; nobody has written it."""


def fault_text(error: ValidationError) -> str:
    """The first thing that is wrong: the field, where it is that of one, and why.

    A field that nobody knows comes before all others: it may be one that is missing, misspelt.
    """
    found = error.errors(include_url=False, include_input=False)
    first = next((each for each in found if each["type"] == "extra_forbidden"), found[0])
    reason = _reason(first)
    if field := ".".join(str(part) for part in first["loc"] if part not in _UNION):
        return text("fault.field", field=one_line(field), reason=reason)
    return reason


def _reason(found: ErrorDetails) -> str:
    kind, facts = found["type"], found.get("ctx", {})
    if kind == "value_error":  # ours, told by whoever raised it
        return one_line(facts["error"])
    if kind in BOUNDS:
        name, sign = BOUNDS[kind]
        bound = facts[name]
        shown = count_text(bound) if isinstance(bound, int) else f"{bound:g}"
        return text("fault.bound", bound=f"{sign} {shown}")
    if kind == "literal_error":
        return text("fault.choice", known=facts["expected"].replace(" or ", ", "))
    if kind == "json_invalid" and "hex escape" in facts["error"]:  # of a surrogate
        return text("fault.escape")
    if kind in _ENTRIES:
        return text(f"fault.{_ENTRIES[kind]}")
    wanted = _KINDS.get(kind.partition("_")[0])
    return text(f"fault.{wanted}" if wanted else "fault.other")
