"""What settings come to: files of the root file system, and units that are started after them.

They are written into a folder, which is laid over the root file system at each start: settings
that have not changed need not be read again, and nothing that could fail is left to be done then.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["File", "Link", "Tree"]


@dataclass(frozen=True, slots=True)
class File:
    """A file."""

    text: str
    mode: int = 0o644


@dataclass(frozen=True, slots=True)
class Link:
    """A symbolic link."""

    target: str


@dataclass(frozen=True, slots=True)
class Tree:
    """Some of it."""

    files: Mapping[str, File | Link] = field(default_factory=dict)
    """By their paths from the root."""
    units: tuple[str, ...] = ()
    """Of systemd."""
    modules: tuple[str, ...] = ()
    """Of Linux."""

    def __or__(self, other: Tree) -> Tree:
        return Tree(
            {**self.files, **other.files},
            self.units + other.units,
            self.modules + other.modules,
        )

    def write(self, folder: Path) -> None:
        """Write it into a folder; in `run/lucie-settings` there is what is to be started.

        Raises:
            OSError: it cannot be written.
        """
        started = {"units": self.units, "modules": self.modules}
        lists = {
            f"run/lucie-settings/{name}": File("".join(f"{each}\n" for each in names))
            for name, names in started.items()
        }
        for path, entry in {**self.files, **lists}.items():
            place = folder / path
            place.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(entry, Link):
                place.symlink_to(entry.target)
            else:
                place.touch(0o600)
                place.write_text(entry.text, encoding="utf-8")
                place.chmod(entry.mode)
