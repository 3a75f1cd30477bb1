"""Building a corpus.

    fetch            packages of the registries, pinned and hashed, into the cache
    extract          documents, by the form of each package's files
    clean            characters, white space, paragraphs of another language, short left-overs
    drop duplicates  of the whole corpus, exact but for white space; the first one stays
    sample           at most so many MB of each source and language, by a hash of the text
    split            a share of documents held out, by a hash of the text
    write            Parquet, with licence and date on each document

A document at a time is in memory, and 16 bytes of each that has been.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from edge.bundle import Bundle
from edge.manifest import DataSource, Manifest, all_of
from edge.progress import Progress
from edge.workshop import software, workshop
from pretrain.corpus.catalog import Bucket, buckets
from pretrain.corpus.cleaning import clean
from pretrain.corpus.extract import extract
from pretrain.corpus.fetch import Fetched, fetch
from pretrain.corpus.package import Package
from pretrain.corpus.settings import Settings
from pretrain.corpus.shelf import Shelf, read_rows
from pretrain.documents import COLUMNS, Document
from pretrain.sources import TITLES
from pretrain.split import KEY_BYTES, SHARE, held_out, sampling_rank, text_key

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Taken", "build"]

_SCHEMA = pa.schema([pa.field(name, pa.string()) for name in COLUMNS])
_DRAFT = pa.schema(
    [(name, pa.string()) for name in ("id", "text", "date")] + [("key", pa.binary(KEY_BYTES))]
)

Stage = Callable[[str], Progress]
Note = Callable[[str, Mapping[str, object]], object]


@dataclass(frozen=True, slots=True)
class Taken:
    """What of a bucket is in the corpus."""

    bucket: Bucket
    package: Package
    train: int
    heldout: int
    """Documents."""
    size: int
    """Bytes of text."""
    dates: frozenset[str]
    """Of these documents."""
    duplicates: int
    """Documents that were there already."""
    rejected: int
    """Documents of which cleaning left nothing."""
    spared: int
    """Documents beyond the limit."""


def build(out: Path, settings: Settings, stage: Stage, note: Note) -> tuple[Bundle, list[Taken]]:
    """Make the corpus bundle `out`.

    Args:
        out: the folder to make.
        settings: what to take.
        stage: told what is being done.
        note: told, by a code and its facts, what is left out.

    Raises:
        LucieError: something of it fails; only the cache of packages stays.
    """
    wanted = buckets(settings.languages, settings.sources)
    with workshop(out) as folder:
        fetched = fetch(wanted, settings.sources, stage("packages"), note)
        seen: set[bytes] = set()
        taken = []
        tell = stage("texts")
        for done, (bucket, package) in enumerate(fetched.packages):
            tell(done, len(fetched.packages))
            taken.append(_take(bucket, package, folder, settings, seen))
        manifest = _manifest(out.name, settings, fetched, taken)
        files = {
            f"{split}/{file.name}": file
            for split in ("train", "heldout")
            for file in sorted((folder / split).glob("*.parquet"))
        }
        return Bundle.write(out, manifest, files, move=True, progress=stage("hash")), taken


def _take(
    bucket: Bucket, package: Package, folder: Path, settings: Settings, seen: set[bytes]
) -> Taken:
    """Write one bucket; `seen` has the keys of all documents before it, and gets its own."""
    draft = folder / "draft.parquet"
    duplicates = rejected = 0
    kind, language = bucket.source.kind, bucket.part.language
    ranks, sizes = array("Q"), array("q")
    with Shelf(draft, _DRAFT) as drafts:
        for name, found, date in _found(bucket, package):
            text = clean(found, kind, language)
            if not text:
                rejected += 1
                continue
            key = text_key(text)
            if key in seen:
                duplicates += 1
                continue
            seen.add(key)
            told = f"{bucket.name}/{language}/{name}"
            drafts.add({"id": told, "text": text, "date": date, "key": key})
            ranks.append(sampling_rank(key))
            sizes.append(len(text.encode()))
    chosen = _sample(np.array(ranks), np.array(sizes), settings.limit_mb)
    counts = _write(bucket, draft, folder, chosen, settings.heldout)
    draft.unlink(missing_ok=True)
    return Taken(
        bucket,
        package,
        train=counts.train,
        heldout=counts.heldout,
        size=counts.size,
        dates=counts.dates,
        duplicates=duplicates,
        rejected=rejected,
        spared=len(chosen) - int(chosen.sum()),
    )


def _found(bucket: Bucket, package: Package) -> Iterator[tuple[str, str, str | None]]:
    """Name, text and date of each document: the date of the edition, or of its file."""
    for file in package.files:
        for name, text in extract(bucket, file.path):
            yield name, text, bucket.source.date or file.date


def _sample(
    ranks: NDArray[np.uint64], sizes: NDArray[np.int64], limit_mb: float | None
) -> NDArray[np.bool_]:
    """Which documents [N] of those sizes stay: the lowest ranks, as many as fit the limit."""
    chosen = np.ones(len(sizes), np.bool_)
    if limit_mb is not None:
        order = np.argsort(ranks, kind="stable")
        chosen[order] = np.cumsum(sizes[order]) <= limit_mb * 1e6
    return chosen


@dataclass(slots=True)
class _Counts:
    train: int
    heldout: int
    size: int
    dates: frozenset[str]


def _write(
    bucket: Bucket,
    draft: Path,
    folder: Path,
    chosen: NDArray[np.bool_],
    share: float,
) -> _Counts:
    source, language = bucket.source, bucket.part.language
    name = f"{bucket.label}.parquet"
    dates = set[str]()
    with (
        Shelf(folder / "train" / name, _SCHEMA) as train,
        Shelf(folder / "heldout" / name, _SCHEMA) as heldout,
    ):
        for row, stays in zip(read_rows(draft), chosen, strict=True):
            if not stays:
                continue
            document = Document(
                id=row["id"],
                text=row["text"],
                source=bucket.name,
                licence=source.licence,
                language=language,
                date=row["date"],
            )
            if document.date:
                dates.add(document.date)
            shelf = heldout if held_out(row["key"], share) else train
            shelf.add(asdict(document))
    return _Counts(train.documents, heldout.documents, train.size + heldout.size, frozenset(dates))


def _manifest(name: str, settings: Settings, fetched: Fetched, taken: list[Taken]) -> Manifest:
    licences = sorted({t.bucket.source.licence for t in taken if t.size})
    return Manifest(
        kind="corpus",
        name=name,
        recipe={
            "step": "pretrain.corpus",
            "languages": list(settings.languages),
            "sources": list(settings.sources),
            TITLES: {t.bucket.name: t.bucket.source.title for t in taken},
            "limit_mb": settings.limit_mb,
            SHARE: settings.heldout,
            "packages": {
                t.package.name: {"version": t.package.version, "sha256": t.package.sha256}
                for t in taken
            },
            "skipped": dict(fetched.skipped),
        },
        software=software("pyarrow"),
        licence=all_of(licences),
        languages=_languages(taken),
        provenance="recorded",
        data=_data(taken),
        metrics=_metrics(taken),
    )


def _languages(taken: list[Taken]) -> tuple[str, ...]:
    sizes = _sizes(taken)
    people = [language for language in sizes if language != "code"]
    return tuple(sorted(people, key=lambda language: -sizes[language]))


def _sizes(taken: list[Taken]) -> dict[str, int]:
    """Bytes of text by language."""
    sizes: dict[str, int] = {}
    for t in taken:
        if t.size:
            language = t.bucket.part.language
            sizes[language] = sizes.get(language, 0) + t.size
    return sizes


def _data(taken: list[Taken]) -> tuple[DataSource, ...]:
    made = []
    for name in dict.fromkeys(t.bucket.name for t in taken):
        parts = [t for t in taken if t.bucket.name == name]
        source = parts[0].bucket.source
        dates = [date for t in parts for date in t.dates]
        made.append(
            DataSource(
                name=source.title,
                licence=source.licence,
                size=sum(t.size for t in parts),
                first_date=min(dates, default=None),
                last_date=max(dates, default=None),
                url=source.url,
            )
        )
    return tuple(made)


def _metrics(taken: list[Taken]) -> dict[str, float]:
    metrics: dict[str, float] = {
        "documents": sum(t.train + t.heldout for t in taken),
        "documents held out": sum(t.heldout for t in taken),
        "duplicates dropped": sum(t.duplicates for t in taken),
        "documents rejected": sum(t.rejected for t in taken),
        "documents beyond the limit": sum(t.spared for t in taken),
        "MB": sum(t.size for t in taken) / 1e6,
    }
    for language, size in _sizes(taken).items():
        metrics[f"MB, {language}"] = size / 1e6
        metrics[f"documents, {language}"] = sum(
            t.train + t.heldout for t in taken if t.bucket.part.language == language
        )
    return metrics
