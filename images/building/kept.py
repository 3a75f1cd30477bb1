"""What a build has made is kept for the next one, by what it was made of."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

from edge.bootstrap.llamacpp import locked
from edge.paths import cache_dir
from images.building.room import remove

__all__ = ["digest", "kept"]


def kept(kind: str, made_of: object, make: Callable[[Path], object]) -> Path:
    """The folder of that kind that is made of these; those made of others are removed.

    Args:
        kind: what it is.
        made_of: all that decides what is in it, as JSON takes it.
        make: fills a folder. One that was stopped gets what it had then.
    """
    key = hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:16]
    folder = cache_dir() / "images" / f"{kind}-{key}"
    with locked(folder.parent / f".{kind}"):
        if not folder.exists():
            draft = folder.with_suffix(".draft")
            draft.mkdir(exist_ok=True)
            make(draft)
            draft.rename(folder)
            for other in folder.parent.glob(f"{kind}-*"):
                if other != folder:
                    remove(other)
    return folder


def digest(folder: Path) -> str:
    """Hash of what is in a folder, or of a file: names, contents, and what is a program."""
    found = hashlib.sha256()
    for file in sorted(folder.rglob("*")) if folder.is_dir() else [folder]:
        if file.is_file() and "__pycache__" not in file.parts:
            program = bool(file.stat().st_mode & 0o111)
            content = file.read_bytes()
            head = f"{file.relative_to(folder)}\0{program}\0{len(content)}\0"
            found.update(head.encode() + content)
    return found.hexdigest()
