"""A package that has been fetched."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["File", "Package"]


@dataclass(frozen=True, slots=True)
class File:
    """A file of a package, on disk."""

    path: Path
    date: str | None = None
    """When it was made, YYYY-MM-DD; None where it does not tell."""


@dataclass(frozen=True, slots=True)
class Package:
    """Files on disk, and what is known of where they came from."""

    name: str
    version: str
    files: tuple[File, ...]
    """One wheel or Debian package; the lists of several suites, where it is a translation."""
    sha256: str
    """Of the file; of the hashes of all files, where there are several."""
