"""What has been measured once is read again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from edge.durable import replace_file
from pretrain.disk import written

__all__ = ["kept"]

Found = TypeVar("Found", bound=BaseModel)


def kept(file: Path, kind: type[Found], measure: Callable[[], Found]) -> Found:
    """What is in a file, or what is measured now, which is in it then.

    What another version has left, or nobody can read, is measured again.

    Args:
        file: JSON, all of it or none.
        kind: of what is in it.
        measure: called where it is not there.

    Raises:
        PretrainError: the file cannot be written.
    """
    try:
        return kind.model_validate_json(file.read_bytes())
    except FileNotFoundError:
        pass
    except ValidationError:
        file.unlink()
    made = measure()
    with written(file.parent):
        file.parent.mkdir(parents=True, exist_ok=True)
        replace_file(file, made.model_dump_json(indent=1).encode())
    return made
