"""What models of a report are called."""

from __future__ import annotations

from distill.report.entries import Role
from distill.words import say

__all__ = ["model_name"]


def model_name(step: int, role: Role) -> str:
    """`teacher`, `1 distilled`: the number of the cut, and what it is."""
    name = say(f"report.role-{role}")
    return f"{step} {name}" if step else name
