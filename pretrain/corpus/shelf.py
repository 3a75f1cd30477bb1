"""Parquet files of documents: the same documents always make the same bytes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

__all__ = ["Shelf", "read_rows"]

_GROUP_BYTES = 4 << 20
"""Text in a row group, which is in memory at a time."""

Row = dict[str, Any]


class Shelf:
    """Writes rows to one Parquet file, which is there only if there was a row.

    Args:
        path: the file.
        schema: its columns.
    """

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._path = path
        self._schema = schema
        self._rows: list[Row] = []
        self._held = 0
        self._writer: pq.ParquetWriter | None = None
        self.documents = 0
        self.size = 0
        """Bytes of text."""

    def add(self, row: Row) -> None:
        """Write a row; its column `text` counts."""
        size = len(row["text"].encode())
        self._rows.append(row)
        self._held += size
        self.documents += 1
        self.size += size
        if self._held >= _GROUP_BYTES:
            self._write()

    def _write(self) -> None:
        if not self._rows:
            return
        if self._writer is None:
            self._path.parent.mkdir(exist_ok=True)
            self._writer = pq.ParquetWriter(self._path, self._schema, compression="zstd")
        self._writer.write_table(pa.Table.from_pylist(self._rows, self._schema))
        self._rows.clear()
        self._held = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        if kind is None:
            self._write()
        if self._writer is not None:
            self._writer.close()


def read_rows(path: Path) -> Iterator[Row]:
    """The rows of a file that `Shelf` has written, a few at a time; none, if it wrote none."""
    if not path.exists():
        return
    with pq.ParquetFile(path) as file:
        batches: Iterable[pa.RecordBatch] = file.iter_batches(256)
        for batch in batches:
            yield from batch.to_pylist()
