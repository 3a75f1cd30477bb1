"""Making a text fit to learn from: characters, white space, paragraphs of another language.

Translated documentation is never wholly translated: paragraphs, whole licences among them,
stay English. A paragraph is taken for another language when that language's commonest words
are in it and those of its own are missing. (Such words tell languages apart on a sentence or
more: Dunning, Statistical Identification of Language, 1994.)
"""

from __future__ import annotations

import re
import unicodedata

__all__ = ["clean"]

_WORDS = {
    "en": "the of and to is that for with this are be by it you from not have can will or which",
    "fr": "le la les des et est une dans pour que qui du sur pas au par avec sont vous ce de",
    "de": "der die das und ist nicht ein eine den von zu mit auf für sich werden wird dem sie im",
    "es": "el la los las de que y en un una por con para se del es su al como si este",
    "it": "il la che di e un una per con non si del della in sono i gli le è dei nel",
}
_COMMON = {language: frozenset(words.split()) for language, words in _WORDS.items()}
_SPOKEN_IN = {
    word: tuple(name for name, common in _COMMON.items() if word in common)
    for word in frozenset().union(*_COMMON.values())
}
_WORD = re.compile(r"[^\W\d_]+")
_LEAST_HITS = 4
"""Common words of the other language in a paragraph, before it is judged; half of them where
its own language has none."""
_RATIO = 2
"""How many times more of them than of its own."""
_BLANKS = re.compile(r"[ \t]+")
_GAPS = re.compile(r"\n{3,}")
_CONTROLS = dict.fromkeys([*range(9), 11, 12, *range(14, 32), 127, 0xAD, 0x200B, 0xFEFF])
"""Characters that say nothing: controls, soft hyphens, spaces of no width."""
_LINE_ENDS = re.compile(r"\r\n?")
_LEAST = {"prose": 80, "documentation": 120, "dictionary": 30, "code": 200}
"""Characters of a document by its kind; shorter ones are headings and left-overs."""


def clean(text: str, kind: str, language: str) -> str:
    """A document's text; empty where nothing worth learning from is left.

    Args:
        text: as it is extracted.
        kind: of the source, as the catalogue says it.
        language: ISO 639-1, or `code`.
    """
    text = _LINE_ENDS.sub("\n", text)
    if "\N{REPLACEMENT CHARACTER}" in text:
        return ""
    text = unicodedata.normalize("NFC", text).translate(_CONTROLS)
    if kind == "code":
        text = "\n".join(line.rstrip() for line in text.split("\n"))
        text = _GAPS.sub("\n\n\n", text).strip("\n") + "\n"
    else:
        paragraphs = (_lines(paragraph) for paragraph in re.split(r"\n\s*\n", text))
        told = kind == "documentation"
        text = "\n\n".join(p for p in paragraphs if p and not (told and _is_foreign(p, language)))
    return text if len(text) >= _LEAST[kind] else ""


def _lines(paragraph: str) -> str:
    """A paragraph whose lines keep their indent, as listings need it, and no other blanks."""
    made = []
    for line in paragraph.split("\n"):
        told = line.rstrip()
        indent = len(told) - len(told.lstrip())
        made.append(told[:indent] + _BLANKS.sub(" ", told[indent:]))
    return "\n".join(made).strip("\n").rstrip()


def _is_foreign(paragraph: str, language: str) -> bool:
    if paragraph.count(" ") < 2:
        return False
    hits = dict.fromkeys(_COMMON, 0)
    for word in _WORD.findall(paragraph.lower()):
        for name in _SPOKEN_IN.get(word, ()):
            hits[name] += 1
    own = hits.pop(language)
    most = max(hits.values())
    return most >= (_LEAST_HITS if own else _LEAST_HITS // 2) and most > _RATIO * own
