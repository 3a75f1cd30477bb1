"""What was measured of a model's matrices, kept in a file: hours of work for a large model.

    <source>.<key>.sensitivity.json    the key stands for model, texts and importance matrix

The file lies where people keep files, so it is not believed: what does not fit is measured anew.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field, PositiveInt, ValidationError

__all__ = ["Notes", "Sensitivity"]

_MOST_BYTES = 64 << 20

_Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Sensitivity(BaseModel, frozen=True, extra="forbid"):
    """Of one weight matrix."""

    shape: tuple[PositiveInt, PositiveInt]
    """[out, in]"""
    probe: str
    """The format that it was rounded to."""
    kld: _Amount
    """Mean KL divergence, in nats, with this matrix alone rounded so."""
    errors: dict[str, _Amount]
    """e² in formats that its rows fit; with `probe`."""

    def cost(self, kind: str) -> float:
        """The KL divergence to expect of that format."""
        error = self.errors[self.probe]
        return self.kld / error * self.errors[kind] if error else 0.0


class _File(BaseModel, extra="forbid"):
    key: str
    tensors: dict[str, dict[str, object]] = Field(default_factory=dict)


class Notes:
    """The file, as far as it is of use.

    Args:
        path: the file; it need not be there.
        key: what it must be about.
        shapes: of the matrices, [out, in].
    """

    def __init__(self, path: Path, key: str, shapes: Mapping[str, tuple[int, int]]) -> None:
        self.path = path
        self._key = key
        self.tensors: dict[str, Sensitivity] = {}
        for name, content in _read(path, key).items():
            try:
                found = Sensitivity.model_validate(content)
            except ValidationError:
                continue
            if found.shape == shapes.get(name) and found.probe in found.errors:
                self.tensors[name] = found

    def add(self, name: str, found: Sensitivity) -> None:
        """Note, and write it down."""
        self.tensors[name] = found
        content = {name: each.model_dump(mode="json") for name, each in self.tensors.items()}
        part = self.path.with_name(f".{self.path.name}.part")
        part.write_text(_File(key=self._key, tensors=content).model_dump_json(), encoding="utf-8")
        part.replace(self.path)


def _read(path: Path, key: str) -> dict[str, dict[str, object]]:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return {}
    with os.fdopen(fd, "rb") as file:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_size > _MOST_BYTES:
            return {}
        try:
            content = _File.model_validate_json(file.read(_MOST_BYTES))
        except ValidationError:
            return {}
    return content.tensors if content.key == key else {}
