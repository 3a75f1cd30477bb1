"""Licences as SPDX writes them: names of its list, and `LicenseRef-…` for what it has none for.

https://spdx.github.io/spdx-spec/v2.3/SPDX-license-expressions/
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache

from license_expression import ExpressionError, Licensing, ParseError, get_spdx_licensing

__all__ = ["Licence", "all_of", "any_of", "listed", "unlisted"]


@dataclass(frozen=True, slots=True)
class Licence:
    """Under which terms something may be used."""

    terms: tuple[str, ...]
    """Expressions of SPDX, all of which hold."""
    texts: Mapping[str, str] = field(default_factory=dict)
    """For each `LicenseRef-…` in them, what it stands for."""

    @property
    def expression(self) -> str:
        """The terms as one."""
        return _joined(" AND ", self.terms)


def all_of(licences: Iterable[Licence]) -> Licence:
    """For what is under several licences at once; each is told once."""
    found = list(licences)
    return Licence(
        tuple(dict.fromkeys(term for each in found for term in each.terms)), _texts(found)
    )


def any_of(licences: Iterable[Licence]) -> Licence:
    """For what may be used under one or another."""
    found = list(licences)
    choices = dict.fromkeys(each.expression for each in found)
    return Licence((_joined(" OR ", choices),), _texts(found))


def listed(expression: str) -> str | None:
    """The expression in SPDX's own spelling, where its list has all that is named in it."""
    try:
        parsed = _spdx().parse(expression, validate=True, strict=True)
    except (ExpressionError, ParseError):
        return None
    # The library also knows names of a scanner's own.
    return None if parsed is None or "LicenseRef-" in str(parsed) else str(parsed)


def unlisted(name: str, text: str) -> Licence:
    """A licence that the list has no name for; equal texts of one name are one licence."""
    name = re.sub(r"[^A-Za-z0-9.]+", "-", name).strip("-")
    reference = f"LicenseRef-{name}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
    return Licence((reference,), {reference: text})


@cache
def _spdx() -> Licensing:
    """The list; reading it takes a third of a second."""
    return get_spdx_licensing()


def _joined(word: str, expressions: Iterable[str]) -> str:
    found = list(expressions)
    return word.join(f"({each})" if " " in each and len(found) > 1 else each for each in found)


def _texts(licences: Iterable[Licence]) -> dict[str, str]:
    return {name: text for each in licences for name, text in each.texts.items()}
