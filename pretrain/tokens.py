"""Texts as rows of tokens on disk, made once and mapped into memory by every training.

    CACHE/tokens/KEY/
    ├── tokens.bin    documents end to end, each with its separator; uint16, or uint32 where
    │                 the vocabulary is larger than 65,536
    └── about.json    what they are of, with licence, dates and sizes

The key names the text, the tokenizer and what was chosen of the text; the identity, by which a
training knows what it reads, is the hash of the tokens themselves.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from edge.durable import sync_folder, sync_tree
from edge.manifest import MANIFEST, DataSource, all_of
from edge.progress import Progress
from edge.tokenizer_file import table_rows
from edge.workshop import is_at, workshop
from pretrain.documents import Document, Split, read_documents
from pretrain.errors import PretrainError
from pretrain.result import manifest_of
from pretrain.sources import published

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from tokenizers import Tokenizer

__all__ = ["About", "Choice", "TokenRow", "tokenized"]

_TOKENS = "tokens.bin"
_ABOUT = "about.json"
_FORMAT = 3
"""Of what is in the cache: 2 knows every licence of a source; 3 what a corpus calls it, and no
control token that a text has spelt."""
_TOGETHER = 256
"""Documents that the tokenizer reads at once, on all cores."""
_CHARACTERS = 1 << 20
"""At most of these together, but for one document that is longer: tokens take 36 times a text."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What of which text."""

    path: Path
    split: Split | None = None
    """None: all of it."""
    languages: tuple[str, ...] = ()
    """Only these; all, where none is named."""
    sources: tuple[str, ...] = ()
    """Likewise."""

    def documents(self) -> Iterator[Document]:
        """The documents.

        Raises:
            LucieError: the text cannot be read.
        """
        for document in read_documents(self.path, split=self.split):
            if self.languages and document.language not in self.languages:
                continue
            if self.sources and document.source not in self.sources:
                continue
            yield document

    def state(self) -> str:
        """Changes when the text does: a bundle's hash, or names, sizes and times of files."""
        manifest = self.path / MANIFEST
        if manifest.is_file():
            return hashlib.sha256(manifest.read_bytes()).hexdigest()
        files = sorted(self.path.rglob("*")) if self.path.is_dir() else [self.path]
        said = [(str(file), file.stat()) for file in files if file.is_file()]
        return repr([(name, status.st_size, status.st_mtime_ns) for name, status in said])


class About(BaseModel):
    """What stands beside a row of tokens."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: str
    """Of the tokens."""
    dtype: Literal["uint16", "uint32"]
    """How each is written, the lowest byte first."""
    tokens: int
    """How many, separators counted."""
    size: int
    """Bytes of text, in UTF-8."""
    documents: int
    """How many."""
    languages: tuple[str, ...]
    """Whose documents these are, the one with most bytes first."""
    data: tuple[DataSource, ...]
    """The bodies of text, with tokens, sizes, licences and dates."""


class TokenRow:
    """A row of tokens on disk; `Tokens` of an order."""

    def __init__(self, folder: Path) -> None:
        try:
            self.about = About.model_validate_json((folder / _ABOUT).read_bytes())
            size = (folder / _TOKENS).stat().st_size
            dtype = np.dtype(self.about.dtype).newbyteorder("<")
            # An empty file cannot be mapped.
            self._tokens = np.memmap(folder / _TOKENS, dtype, "r") if size else np.empty(0, dtype)
        except (OSError, ValueError) as error:
            raise PretrainError("tokens.damaged", path=str(folder)) from error
        if len(self._tokens) != self.about.tokens:
            raise PretrainError("tokens.damaged", path=str(folder))

    @property
    def identity(self) -> str:
        """SHA-256 of the tokens."""
        return self.about.sha256

    def __len__(self) -> int:
        return self.about.tokens

    def read(self, start: int, stop: int) -> NDArray[np.int32]:
        """Tokens from `start` to before `stop`."""
        return self._tokens[start:stop].astype(np.int32)


def tokenized(
    choice: Choice, tokenizer: Tokenizer, separator: int, cache: Path, progress: Progress
) -> TokenRow:
    """The tokens of a text, from the cache where they are there.

    Args:
        choice: the text.
        tokenizer: the model's.
        separator: token behind each document.
        cache: where rows of tokens are kept.
        progress: called with bytes of text done.

    Raises:
        LucieError: the text cannot be read.
        PretrainError: there is no room for its tokens.
    """
    said = repr((_FORMAT, choice, choice.state(), tokenizer.to_str(), separator))
    target = cache / hashlib.sha256(said.encode()).hexdigest()[:32]
    if not target.is_dir():
        try:
            cache.mkdir(parents=True, exist_ok=True)
            with _first(target) as first:
                if first:
                    _make(choice, tokenizer, separator, target, progress)
        except OSError as error:
            reason = error.strerror or str(error)
            raise PretrainError("tokens.unwritable", path=str(cache), reason=reason) from error
    return TokenRow(target)


@contextmanager
def _first(target: Path) -> Iterator[bool]:
    """Whether this process is the one to make it; the others of this computer wait until it has."""
    lock = target.with_suffix(".lock")
    with _locked(lock):
        try:
            yield not target.is_dir()
        finally:
            lock.unlink(missing_ok=True)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Be the only one who holds the lock on that file, which goes when it is not needed."""
    while True:
        with path.open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            # Who had it before may have removed the file; others wait at the next one then.
            if is_at(path, file.fileno()):
                yield
                return


def _make(
    choice: Choice, tokenizer: Tokenizer, separator: int, target: Path, progress: Progress
) -> None:
    with workshop(target) as draft:
        _write(choice, tokenizer, separator, draft, progress)
        try:
            draft.rename(target)
        except OSError as error:
            # On a disk that many computers see, locks may be of each: one was quicker, with the
            # same.
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
    sync_folder(target.parent)


def _write(
    choice: Choice, tokenizer: Tokenizer, separator: int, folder: Path, progress: Progress
) -> None:
    dtype = np.dtype(np.uint16 if table_rows(tokenizer) <= 1 << 16 else np.uint32)
    digest = hashlib.sha256()
    count = _Count(published(manifest_of(choice.path)))
    with (folder / _TOKENS).open("xb") as writer:
        for documents in _some(choice.documents()):
            texts = [document.text for document in documents]
            found = tokenizer.encode_batch_fast(texts, add_special_tokens=False)
            for document, encoding in zip(documents, found, strict=True):
                ids = np.array([*encoding.ids, separator], dtype.newbyteorder("<"))
                writer.write(ids.data)
                digest.update(ids.data)
                count.add(document, len(ids))
            progress(count.size, None)
    about = count.about(digest.hexdigest(), "uint16" if dtype.itemsize == 2 else "uint32")
    (folder / _ABOUT).write_text(about.model_dump_json(indent=1), encoding="utf-8")
    sync_tree(folder)


def _some(documents: Iterator[Document]) -> Iterator[list[Document]]:
    some: list[Document] = []
    size = 0
    for document in documents:
        if some and (len(some) == _TOGETHER or size + len(document.text) > _CHARACTERS):
            yield some
            some, size = [], 0
        some.append(document)
        size += len(document.text)
    if some:
        yield some


@dataclass
class _Of:
    """What has been read of one body of text."""

    licences: set[str | None] = field(default_factory=set)
    tokens: int = 0
    size: int = 0
    dates: list[str] = field(default_factory=list)
    """The first and the last."""


class _Count:
    """What has been read, by source and language.

    Args:
        known: the sources as they were published, by the names that documents have for them.
    """

    def __init__(self, known: Mapping[str, DataSource]) -> None:
        self._known = known
        self.tokens = 0
        self.size = 0
        self.documents = 0
        self._sources: dict[str, _Of] = {}
        self._languages: dict[str, int] = {}

    def add(self, document: Document, tokens: int) -> None:
        size = len(document.text.encode())
        self.tokens += tokens
        self.size += size
        self.documents += 1
        of = self._sources.setdefault(document.source or "unknown", _Of())
        of.licences.add(document.licence)
        of.tokens += tokens
        of.size += size
        if document.date:
            of.dates = [min([*of.dates, document.date]), max([*of.dates, document.date])]
        if document.language:
            known = self._languages.get(document.language, 0)
            self._languages[document.language] = known + size

    def about(self, sha256: str, dtype: Literal["uint16", "uint32"]) -> About:
        return About(
            sha256=sha256,
            dtype=dtype,
            tokens=self.tokens,
            size=self.size,
            documents=self.documents,
            languages=tuple(sorted(self._languages, key=lambda each: -self._languages[each])),
            data=tuple(self._source(name, of) for name, of in self._sources.items()),
        )

    def _source(self, name: str, of: _Of) -> DataSource:
        known = self._known.get(name)
        return DataSource(
            name=known.name if known else name,
            licence=all_of(sorted(of.licences, key=str)),
            tokens=of.tokens,
            size=of.size,
            first_date=of.dates[0] if of.dates else None,
            last_date=of.dates[-1] if of.dates else None,
            url=known.url if known else None,
        )
