"""Which commands the installed distributions add to `lucie`, without importing them.

The entry points of a distribution stand in `entry_points.txt` beside its metadata
(packaging.python.org, "Entry points specification"). `importlib.metadata` reads
them too, but costs 40 ms on a desktop and three times that on a Raspberry Pi,
more than all the rest of `lucie --help`.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

__all__ = ["EntryPoint", "entry_points"]

_VALUE = re.compile(r"(?P<module>[\w.]+)\s*:\s*(?P<attr>[\w.]+)\s*(\[(?P<extra>[\w-]+)\])?\s*$")


@dataclass(frozen=True, slots=True)
class EntryPoint:
    """One line `name = module:attr [extra]`."""

    name: str
    module: str
    attr: str
    extra: str | None
    """The extra of the distribution without which the module cannot be imported."""


def entry_points(group: str, path: Sequence[str] | None = None) -> dict[str, EntryPoint]:
    """The entry points of `group` by name, sorted; of two equal names the first on `path` wins.

    Args:
        group: section of `entry_points.txt`.
        path: folders to look in; `sys.path` where none are given. Zip files are passed over.
    """
    found: dict[str, EntryPoint] = {}
    for text in _files(sys.path if path is None else path):
        for entry in _section(text, group):
            found.setdefault(entry.name, entry)
    return dict(sorted(found.items()))


def _files(path: Sequence[str]) -> Iterator[str]:
    for folder in path:
        try:
            names = sorted(os.listdir(folder or "."))  # noqa: PTH208 - pathlib costs 10 ms here
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            continue  # sys.path may name what is not there
        for name in names:
            if name.endswith((".dist-info", ".egg-info")):
                file = f"{folder or '.'}/{name}/entry_points.txt"
                try:
                    with open(file, encoding="utf-8") as opened:  # noqa: PTH123 - as above
                        yield opened.read()
                except (FileNotFoundError, NotADirectoryError):
                    continue  # most distributions have none


def _section(text: str, group: str) -> Iterator[EntryPoint]:
    inside = False
    for line in map(str.strip, text.splitlines()):
        if line.startswith("["):
            inside = line == f"[{group}]"
        elif inside and line and not line.startswith(("#", ";")):
            name, _, value = line.partition("=")
            if match := _VALUE.match(value.strip()):
                yield EntryPoint(name.strip(), match["module"], match["attr"], match["extra"])
