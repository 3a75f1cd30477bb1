"""What has been measured once is read again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from edge.workshop import workshop

__all__ = ["kept"]

Found = TypeVar("Found", bound=BaseModel)


def kept(file: Path, kind: type[Found], measure: Callable[[Path], Found]) -> Found:
    """What is in a file, or what is measured now, which is in it then.

    What a pulled plug or another version has left, and nobody can read, is measured again.

    Args:
        file: JSON, all of it or none.
        kind: of what is in it.
        measure: called with an empty folder, which is gone afterwards.
    """
    try:
        return kind.model_validate_json(file.read_bytes())
    except FileNotFoundError:
        pass
    except ValidationError:
        file.unlink()
    with workshop(file) as draft:
        made = measure(draft)
        (draft / file.name).write_text(made.model_dump_json(indent=1), encoding="utf-8")
        (draft / file.name).replace(file)
    return made
