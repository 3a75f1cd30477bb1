"""What a person reads, in the language of their screen.

Texts stand in `locale/<subject>.toml` beside the package that says them, all
languages of one text side by side::

    [not-found]
    en = "No model is named {name}."
    fr = "Aucun modèle ne s’appelle {name}."

and are asked for by `subject.not-found`. Only the subject that is asked for is
read, so a command pays for its own texts alone.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

__all__ = ["FOLDER", "LANGUAGES", "entries", "grouped", "language", "text", "translate"]

LANGUAGES = ("en", "fr")
_FRENCH_SPACE = "\N{NO-BREAK SPACE}"
_REASONS = frozenset({"reason", "how"})
"""Facts that may be words of the system or of httpx, which are English."""
FOLDER = Path(__file__).parent / "locale"
"""Where the texts of this package are."""


def language() -> str:
    """The two-letter code of the user's language, `en` where none of ours is asked for.

    `LUCIE_LANG` wins over the POSIX order LC_ALL, LC_MESSAGES, LANG.
    """
    for variable in ("LUCIE_LANG", "LC_ALL", "LC_MESSAGES", "LANG"):
        if value := os.environ.get(variable):
            code = value[:2].lower()
            return code if code in LANGUAGES else "en"
    return "en"


@cache
def _subject(folder: Path, name: str) -> dict[str, dict[str, str]]:
    return tomllib.loads((folder / f"{name}.toml").read_text(encoding="utf-8"))


def translate(
    code: str, facts: Mapping[str, Any], *, lang: str | None = None, folder: Path = FOLDER
) -> str:
    """The text of `code` with `facts` filled in, whatever their names are.

    Args:
        code: `subject.entry`.
        facts: values for the text's placeholders.
        lang: a code of `LANGUAGES`; the user's language where none is given.
        folder: the `locale` folder of the package that says it.

    Raises:
        KeyError: there is no such entry, or a placeholder without a fact.
    """
    subject, entry = code.split(".", 1)
    lang = lang or language()
    said = _subject(folder, subject)[entry][lang]
    return said.format_map({name: _fact(name, value, lang) for name, value in facts.items()})


def _fact(name: str, value: Any, lang: str) -> _Fact:
    """A value; where it is a reason that has been foreseen, as the language has it."""
    if name in _REASONS and isinstance(value, str):
        value = _reasons(lang).get(value, value)
    return _Fact(value, lang)


@cache
def _reasons(lang: str) -> dict[str, str]:
    """What the system and httpx say in English, and how it is said here."""
    subjects = ("system", "network") if lang != "en" else ()
    told = (texts for name in subjects for texts in _subject(FOLDER, name).values())
    return {texts["en"]: texts[lang] for texts in told}


def entries(subject: str, lang: str, *, folder: Path = FOLDER) -> dict[str, str]:
    """All texts of one subject in one language, with the placeholders that stand in them."""
    return {entry: texts[lang] for entry, texts in _subject(folder, subject).items()}


def grouped(value: int, lang: str) -> str:
    """A whole number with its thousands apart: 2,048 in English, 2 048 in French."""
    # A no-break space, as French has it; the Linux console knows no narrow one.
    return f"{value:,}".replace(",", _FRENCH_SPACE if lang == "fr" else ",")


class _Fact:
    """A value in a text; `{n:,}` sets a number's thousands apart as the language does, `{x:.3g}`
    its decimals."""

    def __init__(self, value: Any, lang: str) -> None:
        self._value = value
        self._lang = lang

    def __str__(self) -> str:
        return str(self._value)

    def __format__(self, spec: str) -> str:
        if spec != ",":
            shown = format(self._value, spec)
            decimal = self._lang == "fr" and spec and isinstance(self._value, float)
            return shown.replace(".", ",") if decimal else shown
        if not isinstance(self._value, int):  # of a server that says what it likes
            return str(self._value)
        return grouped(self._value, self._lang)


def text(code: str, /, *, lang: str | None = None, folder: Path = FOLDER, **facts: Any) -> str:
    """`translate` with the facts as arguments."""
    return translate(code, facts, lang=lang, folder=folder)
