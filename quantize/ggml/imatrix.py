"""The importance matrix: how strongly each input of each weight matrix is used.

For a matrix W [out, in] and inputs x over a calibration text, it holds Σ x² for each of
the `in` columns. A quantizer that weighs errors by it spends its few levels where they
matter (llama.cpp, PR 4861). The file is llama.cpp's own (tools/imatrix), both ways:

    general.type = "imatrix", imatrix.datasets, imatrix.chunk_count, imatrix.chunk_size
    blk.0.attn_q.weight.in_sum2 [in], blk.0.attn_q.weight.counts [1], …
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np

from edge.errors import DamagedModelError
from edge.gguf_types import Array
from quantize.errors import QuantizeError
from quantize.ggml.tensors import GGUFTensors

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Importance", "ImportanceMatrix"]

_SUMS, _COUNTS = ".in_sum2", ".counts"
_TYPE = "imatrix"
_TEXT = "lucie.calibration.sha256"


@dataclass(frozen=True, slots=True)
class Importance:
    """Of one weight matrix."""

    sums: NDArray[np.float32]
    """Σ x² for each input [in]; of a stack of experts, [experts · in]."""
    counts: NDArray[np.float32]
    """How many inputs x there were [1], or [experts]."""

    @property
    def means(self) -> NDArray[np.float32]:
        """Mean of x² for each input; 1 where none was seen, as `llama-quantize` has it."""
        per_row = self.sums.reshape(self.counts.size, -1)
        seen = self.counts[:, None] > 0
        divisor = np.where(seen, self.counts[:, None], np.float32(1))
        return np.where(seen, per_row / divisor, np.float32(1)).astype(np.float32).reshape(-1)


@dataclass(frozen=True)
class ImportanceMatrix:
    """Of all weight matrices of a model."""

    entries: Mapping[str, Importance]
    """By the tensors' names in GGUF."""
    datasets: tuple[str, ...]
    """Names of the texts."""
    chunk_count: int
    """How many pieces of text were read."""
    chunk_size: int
    """Tokens of each."""
    text_sha256: str = ""
    """SHA-256 of those tokens; our own field, "" in files of others."""
    file: str = ""
    """Name of the file that it was read from."""

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a file that we or `llama-imatrix` wrote.

        Raises:
            ModelError: it is no GGUF file (as the older `.dat` is not), or cannot be read.
            QuantizeError: it is damaged, a GGUF file of another kind, or incomplete.
        """
        try:
            file = GGUFTensors.open(path)
        except DamagedModelError as error:
            raise QuantizeError("imatrix.damaged", path=str(path)) from error
        if file.scalar("general.type") != _TYPE:
            raise QuantizeError("imatrix.not-one", path=str(path))
        names = [name.removesuffix(_SUMS) for name in file.tensors if name.endswith(_SUMS)]
        entries = {}
        for name in names:
            if f"{name}{_COUNTS}" not in file.tensors:
                raise QuantizeError("imatrix.incomplete", path=str(path), tensor=name)
            sums = file.read(f"{name}{_SUMS}").reshape(-1)
            counts = file.read(f"{name}{_COUNTS}").reshape(-1)
            both = np.concatenate([sums, counts])
            if sums.size % counts.size or not np.isfinite(both).all() or (both < 0).any():
                raise QuantizeError("imatrix.incomplete", path=str(path), tensor=name)
            entries[name] = Importance(sums, counts)
        if not entries:
            raise QuantizeError("imatrix.empty", path=str(path))
        texts = file.raw.values.get("imatrix.datasets")
        return cls(
            entries,
            tuple(map(str, texts.values or ())) if isinstance(texts, Array) else (),
            int(file.scalar("imatrix.chunk_count") or 0),
            int(file.scalar("imatrix.chunk_size") or 0),
            str(file.scalar(_TEXT) or ""),
            path.name,
        )

    def require(self, widths: Mapping[str, int]) -> None:
        """See that it is of a model whose matrices have so many columns, by name.

        Raises:
            QuantizeError: it is of another.
        """
        if self.entries.keys().isdisjoint(widths):
            raise QuantizeError("imatrix.other-names", tensor=min(self.entries))
        for name, columns in widths.items():
            entry = self.entries.get(name)
            if entry is not None and entry.means.size != columns:
                raise QuantizeError(
                    "imatrix.other-model", tensor=name, columns=columns, inputs=entry.means.size
                )

    def write(self, path: Path) -> None:
        """Write it to `path`, all or nothing."""
        import gguf

        draft = path.with_name(f".{path.name}.part")
        writer = gguf.GGUFWriter(draft, "")  # of no architecture: it is no model
        writer.add_type(_TYPE)
        writer.add_array("imatrix.datasets", list(self.datasets))
        writer.add_uint32("imatrix.chunk_count", self.chunk_count)
        writer.add_uint32("imatrix.chunk_size", self.chunk_size)
        if self.text_sha256:
            writer.add_string(_TEXT, self.text_sha256)
        try:
            for name in sorted(self.entries):
                entry = self.entries[name]
                rows = entry.counts.size
                writer.add_tensor(f"{name}{_SUMS}", entry.sums.reshape(rows, -1))
                writer.add_tensor(f"{name}{_COUNTS}", entry.counts.reshape(rows, 1))
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()
            writer.close()
            draft.replace(path)
        except BaseException:
            writer.close()
            draft.unlink(missing_ok=True)
            raise
