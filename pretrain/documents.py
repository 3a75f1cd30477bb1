"""Documents, one at a time, from whatever a text comes in.

    a corpus bundle           train/*.parquet and heldout/*.parquet
    FILE.parquet              a column `text`
    FILE.jsonl, .jsonl.gz     a key `text` in each line
    FILE.txt, .md             one document
    a folder                  of any of these, in the order of their names

`id`, `source`, `licence`, `language` and `date` are read where they are given.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

from edge.bundle import Bundle
from edge.manifest import LONGEST, MANIFEST, dated
from edge.quantity import count_text
from pretrain.errors import PretrainError, PretrainUsageError
from pretrain.split import HELD_OUT, held_out, text_key

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["COLUMNS", "Document", "Split", "read_documents"]

Split = Literal["train", "heldout"]
COLUMNS = ("id", "text", "source", "licence", "language", "date")
_SUFFIXES = (".parquet", ".jsonl", ".jsonl.gz", ".txt", ".md")
_LINE_BYTES = 64 << 20
"""No document is that long; a file without line ends must not fill the memory."""
_ROWS = 256
"""Rows of a Parquet file that are in memory at a time."""


@dataclass(frozen=True, slots=True)
class Document:
    """A text and what is known of it."""

    id: str
    """Names it within its source, and stays the same."""
    text: str
    source: str | None = None
    """The body of text that it belongs to."""
    licence: str | None = None
    """SPDX expression."""
    language: str | None = None
    """ISO 639-1, or `code`."""
    date: str | None = None
    """YYYY, YYYY-MM or YYYY-MM-DD."""


def read_documents(
    path: Path,
    *,
    split: Split | None = None,
    source: str | None = None,
    licence: str | None = None,
    language: str | None = None,
    date: str | None = None,
) -> Iterator[Document]:
    """The documents of `path`, in an order that is always the same.

    Args:
        path: a corpus bundle, a file or a folder of files.
        split: only the documents to train on, or only those held out. What is no corpus bundle
            is split by the same rule, at the builder's default share.
        source: of documents that name none; likewise the following.
        licence: SPDX expression.
        language: ISO 639-1, or `code`.
        date: YYYY, YYYY-MM or YYYY-MM-DD.

    Raises:
        PretrainUsageError: there is nothing of a known kind at `path`.
        PretrainError: a file is damaged; the message names the line.
        ModelError: `path` is a bundle that is damaged or cannot be read.
    """
    if (path / MANIFEST).exists():
        found = _of_bundle(path, split)
    else:
        found = _of_files(path)
        if split is not None:
            wanted = split == "heldout"
            found = (d for d in found if held_out(text_key(d.text), HELD_OUT) == wanted)
    given = {"source": source, "licence": licence, "language": language, "date": date}
    defaults = {name: value for name, value in given.items() if value is not None}
    for document in found:
        missing = {n: value for n, value in defaults.items() if getattr(document, n) is None}
        yield replace(document, **missing) if missing else document


def _of_bundle(path: Path, split: Split | None) -> Iterator[Document]:
    bundle = Bundle.open(path, verify=False)
    if bundle.manifest.kind != "corpus":
        kind = bundle.manifest.kind
        raise PretrainUsageError("documents.not-a-corpus", path=str(path), kind=kind)
    for name in sorted(bundle.manifest.files):
        part, _, rest = name.partition("/")
        if rest.endswith(".parquet") and part in ((split,) if split else ("train", "heldout")):
            yield from _parquet(path / name)


def _of_files(path: Path) -> Iterator[Document]:
    if not path.exists():
        raise PretrainUsageError("documents.nothing", path=str(path))
    if not path.is_dir():
        if not path.name.endswith(_SUFFIXES):
            raise PretrainUsageError("documents.kind", path=str(path), known=", ".join(_SUFFIXES))
        yield from _of_file(path, path.name)
        return
    below = (file.relative_to(path) for file in path.rglob("*") if file.is_file())
    names = sorted(
        name.as_posix()
        for name in below
        if name.name.endswith(_SUFFIXES) and not any(part.startswith(".") for part in name.parts)
    )
    if not names:
        raise PretrainUsageError("documents.none", path=str(path), known=", ".join(_SUFFIXES))
    for name in names:
        yield from _of_file(path / name, name)


def _of_file(path: Path, name: str) -> Iterator[Document]:
    if path.suffix == ".parquet":
        yield from _parquet(path)
    elif path.suffix in (".txt", ".md"):
        yield _whole(path, name)
    else:
        yield from _lines(path, name)


def _whole(path: Path, name: str) -> Document:
    with _readable(path), path.open("rb") as reader:
        raw = reader.read(_LINE_BYTES + 1)
    if len(raw) > _LINE_BYTES:
        raise PretrainError("documents.long-file", path=str(path), most=_LINE_BYTES >> 20)
    return Document(name, _decoded(raw, path, 1))


def _lines(path: Path, name: str) -> Iterator[Document]:
    with _readable(path), _open(path) as reader:
        number = 0
        while raw := reader.readline(_LINE_BYTES + 1):
            number += 1
            if len(raw) > _LINE_BYTES:
                raise PretrainError(
                    "documents.long-line", path=str(path), line=number, most=_LINE_BYTES >> 20
                )
            if line := _decoded(raw, path, number).strip():
                yield _of_line(line, path, name, number)


def _open(path: Path) -> BinaryIO:
    if path.suffix == ".gz":
        return gzip.open(path, "rb")  # type: ignore[return-value]
    return path.open("rb")


def _decoded(raw: bytes, path: Path, line: int) -> str:
    """The text of bytes that begin at that line."""
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        at = line + raw.count(b"\n", 0, error.start)
        raise PretrainError("documents.encoding", path=str(path), line=at) from None
    if (nul := text.find("\0")) >= 0:
        at = line + text.count("\n", 0, nul)
        raise PretrainError("documents.nul", path=str(path), line=at)
    return text


def _of_line(line: str, path: Path, name: str, number: int) -> Document:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else type(error).__name__
        raise PretrainError(
            "documents.bad-json", path=str(path), line=number, reason=reason
        ) from None
    if not isinstance(row, dict):
        raise PretrainError("documents.no-object", path=str(path), line=number)
    return _document(row, path, number, f"{name}:{number}")


def _document(row: Mapping[str, Any], path: Path, number: int, default_id: str) -> Document:
    """The document of a line or row; raises `PretrainError` where it is none."""
    where = {"path": str(path), "line": number}
    text = row.get("text")
    if not isinstance(text, str):
        raise PretrainError("documents.no-text", **where)
    if "\0" in text:
        raise PretrainError("documents.nul", **where)
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:  # half a surrogate pair, which JSON can spell
            raise PretrainError("documents.surrogate", **where) from None
    known: dict[str, str] = {}
    for name in COLUMNS:
        value = row.get(name)
        if name == "id" and isinstance(value, int):
            value = str(value)
        if value is None:
            continue
        if not isinstance(value, str):
            raise _bad_field(name, where)
        if name not in ("id", "text"):  # which a manifest repeats
            if not value:
                continue
            if name == "date" and not (value := _day(value)):
                raise PretrainError("documents.bad-date", **where)
            if not (value.isprintable() and len(value) <= LONGEST):
                raise _bad_field(name, where)
        known[name] = value
    return Document(**{"id": default_id, **known})


def _bad_field(name: str, where: Mapping[str, Any]) -> PretrainError:
    return PretrainError("documents.bad-field", field=name, most=count_text(LONGEST), **where)


def _day(moment: str) -> str:
    """The day of a moment as ISO 8601 writes it, or what there is of one; empty: it is neither."""
    found = re.match(r"\d{4}(-\d{2}(-\d{2})?)?(?=$|[T ])", moment)
    try:
        return dated(found[0]) if found else ""
    except ValueError:
        return ""


def _parquet(path: Path) -> Iterator[Document]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with _readable(path):
        try:
            with pq.ParquetFile(path) as file:
                _check_schema(file.schema_arrow, path)
                columns = [name for name in file.schema_arrow.names if name in COLUMNS]
                number = 0
                for batch in file.iter_batches(_ROWS, columns=columns):
                    for row in batch.to_pylist():
                        number += 1
                        yield _document(row, path, number, f"{path.name}:{number}")
        except (pa.ArrowException, UnicodeDecodeError, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            # pyarrow says of some damage that it is an OSError, which no system has raised.
            raise PretrainError(
                "documents.bad-parquet", path=str(path), reason=_first_line(error)
            ) from None


def _check_schema(schema: pa.Schema, path: Path) -> None:
    import pyarrow as pa

    if "text" not in schema.names:
        raise PretrainError(
            "documents.no-column", path=str(path), columns=", ".join(schema.names)[:200]
        )
    kind = schema.field("text").type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise PretrainError("documents.bad-column", path=str(path), kind=str(kind))


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise PretrainError(
            "documents.bad-gzip", path=str(path), reason=_first_line(error)
        ) from None
    except OSError as error:
        reason = error.strerror or _first_line(error)
        raise PretrainError("documents.unreadable", path=str(path), reason=reason) from None


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines() or [type(error).__name__]
    return "".join(char for char in lines[0] if char.isprintable())[:200]
