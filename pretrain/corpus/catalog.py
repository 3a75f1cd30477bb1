"""The bodies of text that the builder knows: `sources.toml`, checked."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from edge.manifest import Date, Sha256, Text
from pretrain.corpus.settings import LANGUAGES
from pretrain.errors import PretrainUsageError

__all__ = ["Bucket", "Part", "TextSource", "buckets", "catalog"]

Language = Literal["en", "fr", "de", "es", "it", "code"]
Extractor = Literal["summaries", "glosses", "synsets", "descriptions", "pages", "modules"]
Requirement = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9.+!_-]+$")
]
DebianName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9.+-]+$")]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Part(_Strict):
    """The text of one source in one language: some files of a package."""

    language: Language
    """ISO 639-1, or `code`."""
    wheel: Requirement | None = None
    """A package of the Python package index, as `package==version`."""
    sha256: Sha256 | None = None
    """Of the wheel; a registry that serves another file is refused."""
    deb: DebianName | None = None
    """A package of Debian; its version is that of the release that apt is set up for."""
    translation: Literal["en", "fr", "de", "es", "it"] | None = None
    """apt's list of package descriptions in this language."""
    path: str = "*"
    """Which files of the package, as a shell pattern whose `*` also matches `/`."""
    skip: tuple[str, ...] = ()
    """Which of these not, likewise."""
    mb: Annotated[float, Field(gt=0)]
    """Millions of bytes of text that were measured, before any limit."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if sum(given is not None for given in (self.wheel, self.deb, self.translation)) != 1:
            raise ValueError("one of wheel, deb and translation says where the text is")
        if (self.wheel is None) != (self.sha256 is None):
            raise ValueError("a wheel is pinned by its sha256")
        return self


class TextSource(_Strict):
    """A body of text of one origin, licence and style."""

    title: Text
    """Its name as published."""
    kind: Literal["prose", "dictionary", "documentation", "code"]
    """What it reads like."""
    licence: Text
    """SPDX expression; `LicenseRef-…` where SPDX has none."""
    date: Date | None = None
    """Of the edition; None: that of the package that is fetched."""
    url: Text
    """Where it is published or described."""
    extractor: Extractor
    """How its text is got out of the files."""
    parts: Annotated[tuple[Part, ...], Field(min_length=1)]
    """One for each language."""

    @property
    def languages(self) -> tuple[str, ...]:
        """In the order of `parts`."""
        return tuple(dict.fromkeys(part.language for part in self.parts))

    @property
    def mb(self) -> float:
        """Millions of bytes of text, before any limit."""
        return sum(part.mb for part in self.parts)


class Bucket(_Strict):
    """One source in one language: what a limit counts, and one file of the corpus."""

    name: str
    """Of the source."""
    source: TextSource
    part: Part

    @property
    def label(self) -> str:
        """`source-language`, the name of its file."""
        return f"{self.name}-{self.part.language}"


@cache
def catalog() -> Mapping[str, TextSource]:
    """All sources by name, in the order of the file, which is that of the corpus."""
    file = Path(__file__).with_name("sources.toml")
    tables = tomllib.loads(file.read_text(encoding="utf-8"))
    return {name: TextSource.model_validate(table) for name, table in tables.items()}


def buckets(languages: Sequence[str], sources: Sequence[str]) -> list[Bucket]:
    """What to build, in the order of the catalogue.

    Args:
        languages: some of `LANGUAGES`.
        sources: names of the catalogue; empty: all of them.

    Raises:
        PretrainUsageError: a language or source is not known, or a source is in none of the
            languages.
    """
    for asked, known, code in (
        (languages, LANGUAGES, "corpus.no-language"),
        (sources, tuple(catalog()), "corpus.no-source"),
    ):
        for name in asked:
            if name not in known:
                raise PretrainUsageError(code, name=ascii(name)[1:-1], known=", ".join(known))
    for name in sources:
        has = catalog()[name].languages
        if set(has).isdisjoint(languages):
            raise PretrainUsageError(
                "corpus.not-in", name=name, languages=", ".join(languages), known=", ".join(has)
            )
    return [
        Bucket(name=name, source=source, part=part)
        for name, source in catalog().items()
        if not sources or name in sources
        for part in source.parts
        if part.language in languages
    ]
