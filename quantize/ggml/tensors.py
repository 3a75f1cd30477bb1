"""The tensors of a GGUF file from anywhere, read one at a time.

The header is checked by the runtime's reader (`edge.gguf_reader`) before any size in it is
believed.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from edge.errors import ModelError
from edge.gguf_reader import RawFile, read_raw
from edge.gguf_types import Scalar, TensorInfo
from edge.gguf_window import Window, printable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["GGUFTensors"]


@dataclass(frozen=True)
class GGUFTensors:
    """A GGUF file whose header has been read.

    Args:
        path: the file.
        raw: its header.
    """

    path: Path
    raw: RawFile

    @classmethod
    def open(cls, path: Path) -> Self:
        """Read the header of the file at `path`.

        Raises:
            ModelError: it is no GGUF file or cannot be read.
            DamagedModelError: it contradicts itself.
        """
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise ModelError(
                "gguf.unreadable", path=printable(path), reason=error.strerror
            ) from error
        try:
            return cls(path, read_raw(Window(path, fd, os.fstat(fd).st_size)))
        finally:
            os.close(fd)

    @property
    def tensors(self) -> Mapping[str, TensorInfo]:
        """All tensors by name."""
        return self.raw.tensors

    def scalar(self, key: str) -> Scalar | None:
        """A short value of the metadata; None where there is none."""
        value = self.raw.values.get(key)
        return value if isinstance(value, (str, int, float, bool)) else None

    def read(self, name: str) -> NDArray[np.float32]:
        """The numbers of a tensor, [out, in] as numpy has it, whatever type they are stored in.

        Raises:
            ModelError: the file cannot be read any more.
        """
        import numpy as np

        info = self.tensors[name]
        shape = tuple(reversed(info.shape))
        if info.type == "F32":
            return self.read_bytes(name).view(np.float32).reshape(shape)
        import gguf

        kind = gguf.GGMLQuantizationType[info.type]
        rows = self.read_bytes(name).reshape(*shape[:-1], -1)
        values: NDArray[Any] = gguf.quants.dequantize(rows, kind)
        return values.reshape(shape)

    def read_bytes(self, name: str, most: int | None = None) -> NDArray[np.uint8]:
        """The bytes of a tensor as they are stored, the first `most` of them.

        Raises:
            ModelError: the file cannot be read any more.
        """
        import numpy as np

        info = self.tensors[name]
        count = info.n_bytes if most is None else min(most, info.n_bytes)
        try:
            data = np.fromfile(self.path, dtype=np.uint8, count=count, offset=info.offset)
        except OSError as error:
            raise ModelError(
                "gguf.unreadable", path=printable(self.path), reason=error.strerror
            ) from error
        if data.size != count:
            raise ModelError(
                "gguf.unreadable", path=printable(self.path), reason=f"{data.size} < {count}"
            )
        return data
