"""A part of an image, as lists of components have it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from images.publishing.licences import Licence

if TYPE_CHECKING:
    from packageurl import PackageURL

__all__ = ["Component"]


@dataclass(frozen=True, slots=True)
class Component:
    """Software, a model, a file, or what one learned from."""

    kind: Literal["image", "package", "library", "model", "file", "data"]
    name: str
    version: str = ""
    licence: Licence | None = None
    """None: not known."""
    purl: PackageURL | None = None
    """Where package managers find it: https://github.com/package-url/purl-spec."""
    sha256: str = ""
    """Of what it came in: an archive, or the file itself."""
    supplier: str = ""
    """Who hands it on."""
    summary: str = ""
    """One line."""
    homepage: str = ""
    """As it is told: a manifest may have any text there."""
    parts: tuple[Component, ...] = ()
    """What is in it."""
    learned_from: tuple[Component, ...] = ()
    """What is not in it, but has made a model what it is."""

    @property
    def ref(self) -> str:
        """Names it within an image."""
        return f"{self.kind}/{self.name}@{self.version}".removesuffix("@")

    @property
    def website(self) -> str:
        """The homepage, where that is an address."""
        return self.homepage if re.fullmatch(r"https?://[^\s<>\"]+", self.homepage) else ""

    def all(self) -> Iterator[Component]:
        """It, what is in it, and what that has learned from."""
        yield self
        for each in (*self.parts, *self.learned_from):
            yield from each.all()
