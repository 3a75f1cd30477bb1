"""Licences of a Debian package, from its `copyright` file.

Most of these files are written for machines:
https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
"""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Iterable, Mapping
from typing import Any

from debian.copyright import (
    Copyright,
    License,
    MachineReadableFormatError,
    NotMachineReadableError,
)

from images.publishing.licences import Licence, all_of, any_of, listed, unlisted

__all__ = ["licence_of"]

_SAME = {"Expat": "MIT"}
"""What Debian calls otherwise than SPDX, beside GNU's licences and numbers without a `.0`."""
_WORDS = ((r",\s+and\s+", all_of), (r",\s+or\s+", any_of), (r"\s+or\s+", any_of),
          (r"\s+and\s+", all_of))  # fmt: skip
"""What is between two names, what binds least first."""


def licence_of(text: str, name: str) -> Licence:
    """What the files of a package are under, all together.

    Args:
        text: of its `copyright` file. One that is not written for machines is itself the licence.
        name: of the package.
    """
    # It warns of addresses without https.
    logging.getLogger("debian.copyright").setLevel(logging.ERROR)
    try:
        told = Copyright(io.StringIO(text), strict=False)
        files: list[Any] = [each.license for each in told.all_files_paragraphs()]
        others: list[Any] = [each.license for each in told.all_license_paragraphs()]
    except (NotMachineReadableError, MachineReadableFormatError, ValueError):
        return unlisted(name, text)
    found = [told.header.license, *files]
    texts = _texts([*found, *others])
    synopses = [each.synopsis for each in found if each is not None and each.synopsis]
    whole = all_of(_expression(synopsis, texts) for synopsis in synopses)
    return whole if whole.terms else unlisted(name, text)


def _texts(licences: Iterable[License | None]) -> dict[str, str]:
    """What each name stands for in that file: all of it, where it stands for several things."""
    found: dict[str, dict[str, None]] = {}
    for each in licences:
        if each is not None and each.text:
            found.setdefault(each.synopsis, {})[each.text] = None
    return {name: "\n\n".join(texts) for name, texts in found.items()}


def _expression(synopsis: str, texts: Mapping[str, str]) -> Licence:
    """Of `A or B and C, and D`; what a text stands under is one name, whatever words are in it."""
    if synopsis not in texts:
        for pattern, join in _WORDS:
            parts = re.split(pattern, synopsis, flags=re.IGNORECASE)
            if len(parts) > 1:
                return join(_expression(part, texts) for part in parts)
    known = _listed(synopsis)
    if known is not None:
        return Licence((known,))
    return unlisted(synopsis, texts.get(synopsis, f"“{synopsis}”, with no text beside it."))


def _listed(name: str) -> str | None:
    """SPDX's name for Debian's: GPL-2+ is GPL-2.0-or-later, Apache-2 is Apache-2.0."""
    name = re.sub(r"^GFDL-NIV-([\d.]+)", r"GFDL-\1-no-invariants", _SAME.get(name, name))
    base, which = (name[:-1], "-or-later") if name.endswith("+") else (name, "-only")
    guesses = (name, f"{name}.0", f"{base}{which}", f"{base}.0{which}")
    return next(filter(None, map(listed, guesses)), None)
