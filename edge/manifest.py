"""`manifest.json`: what a bundle is, what made it, what it learned from, what it holds."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from pathlib import PurePosixPath
from typing import Annotated, Final, Literal, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    StringConstraints,
)

from edge.messages import text

__all__ = [
    "FORMAT",
    "LONGEST",
    "MANIFEST",
    "DataSource",
    "File",
    "Kind",
    "Manifest",
    "Parent",
    "Provenance",
    "all_of",
    "dated",
    "inside",
    "least_known",
]

FORMAT: Final = 1
LONGEST: Final = 2000
"""Characters of what a manifest says of something."""
MANIFEST = "manifest.json"

Kind = Literal["corpus", "tokenizer", "model", "importance", "logits", "gguf", "onnx", "image"]

Provenance = Literal["recorded", "declared", "unknown"]
"""Written down from the text on; said by whoever published it; neither."""


def all_of(licences: Iterable[str | None]) -> str | None:
    """The SPDX expression for something that is under several licences at once.

    Args:
        licences: SPDX expressions, each told once; None: one that is not known, as is the whole.
    """
    found = list(dict.fromkeys(licences))
    known = [each for each in found if each is not None]
    whole = " AND ".join(f"({e})" if " " in e and len(known) > 1 else e for e in known)
    return whole if known and len(known) == len(found) and len(whole) <= LONGEST else None


def least_known(provenances: Iterable[Provenance | None]) -> Provenance:
    """How well it is known where something is from that is made of several.

    Args:
        provenances: of each of them; None: of what is no bundle, and says nothing.
    """
    order: tuple[Provenance, ...] = get_args(Provenance)
    return max((each or "unknown" for each in provenances), key=order.index)


def inside(path: str) -> str:
    """`path`, if it names a file below the folder that it is joined to.

    Raises:
        ValueError: it is absolute, climbs out, or is spelt so that systems disagree on it.
    """
    pure = PurePosixPath(path)
    if (
        path != str(pure)
        or pure.is_absolute()
        or not pure.parts
        or any(part == ".." or len(part.encode()) > 255 for part in pure.parts)
        or "\\" in path
        or not path.isprintable()
        or path == MANIFEST
    ):
        raise ValueError(text("fault.path"))
    return path


def dated(day: str) -> str:
    """`day`, written YYYY-MM-DD, YYYY-MM or YYYY, if there is one such.

    Raises:
        ValueError: there is none.
    """
    try:
        date.fromisoformat(f"{day}-01-01"[:10])
    except ValueError:
        raise ValueError(text("fault.date")) from None
    return day


def _printable(said: str) -> str:
    # It is shown on terminals, which control characters would steer.
    if not said.isprintable():
        raise ValueError(text("fault.printable"))
    return said


Text = Annotated[str, StringConstraints(max_length=LONGEST), AfterValidator(_printable)]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,95}$")]
RelativePath = Annotated[str, StringConstraints(max_length=1024), AfterValidator(inside)]
Size = Annotated[int, Field(ge=0)]
Date = Annotated[
    str, StringConstraints(pattern=r"^\d{4}(-\d{2}(-\d{2})?)?$"), AfterValidator(dated)
]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class File(_Part):
    """One file of a bundle."""

    sha256: Sha256
    """SHA-256 of the content, in lower-case hexadecimal."""
    size: Size
    """Bytes."""


class Parent(_Part):
    """A bundle from which this one was made."""

    name: Name
    """Its name."""
    sha256: Sha256
    """SHA-256 of its `manifest.json`, which in turn names the hash of each of its files."""


class DataSource(_Part):
    """A body of text that a model learned from, as far as it is known."""

    name: Text
    """Its name as published."""
    licence: Text | None = None
    """Its SPDX identifier where it has one."""
    tokens: Size | None = None
    """Tokens that training took from it, repetitions counted."""
    size: Size | None = None
    """Bytes of text."""
    first_date: Date | None = None
    """Earliest date of the content: YYYY, YYYY-MM or YYYY-MM-DD."""
    last_date: Date | None = None
    """Latest date of the content."""
    url: Text | None = None
    """Where it is published or described."""


class Manifest(_Part):
    """What a bundle is, what made it, and what it holds."""

    format: Literal[1] = FORMAT
    """Version of this layout."""
    kind: Kind
    """What the files are; `model` is Hugging Face's layout."""
    name: Name
    """Name of the bundle; in the store also that of its folder."""
    parents: tuple[Parent, ...] = ()
    """The bundles that it was made from."""
    recipe: dict[str, JsonValue] = {}
    """The full, resolved settings of the step that made it."""
    software: dict[Text, Text] = {}
    """Versions of what made it, by package."""
    commit: Text | None = None
    """Commit of this project that made it."""
    licence: Text | None = None
    """SPDX identifier; None: not known."""
    languages: tuple[Text, ...] = ()
    """ISO 639 codes, the strongest first; empty: not known."""
    provenance: Provenance
    """How far `data` can be trusted: `recorded` by our own stages from the text on,
    `declared` by its publisher, `unknown` for a file from elsewhere."""
    data: tuple[DataSource, ...] = ()
    """What it was trained on, carried down from the corpus."""
    metrics: dict[Text, float] = {}
    """Measured figures, by name."""
    files: dict[RelativePath, File] = {}
    """Every file but the manifest, by its path in the folder."""
