"""Fetching packages, once each, into the cache; a second time nothing is asked of a network."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edge.download import Want
from edge.errors import StoreError
from edge.messages import translate
from edge.paths import cache_dir
from edge.progress import Progress
from edge.wheel import fetch_whole_wheel
from edge.workshop import held
from pretrain.corpus.catalog import Bucket, Part
from pretrain.corpus.debian import Apt, NoSuchPackageError
from pretrain.corpus.package import File, Package
from pretrain.errors import PretrainError

__all__ = ["Fetched", "fetch"]

Note = Callable[[str, Mapping[str, object]], object]
"""Called with the code and facts of something to tell the user meanwhile."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """What there is to build from."""

    packages: list[tuple[Bucket, Package]]
    skipped: dict[str, str]
    """Why a bucket is left out, by its label; in English, whoever builds."""


def fetch(
    wanted: Sequence[Bucket], chosen: Collection[str], progress: Progress, note: Note
) -> Fetched:
    """Fetch the packages of `wanted` that this machine can have.

    Args:
        wanted: in this order.
        chosen: sources that the user named: these must not be left out.
        progress: called with buckets done.
        note: told of each source that is left out.

    Raises:
        PretrainError: the network fails, or a source of `chosen` cannot be had here.
        StoreError: pip fails, a file is not the one that is pinned, or the cache takes nothing.
    """
    packages: list[tuple[Bucket, Package]] = []
    skipped: dict[str, NoSuchPackageError] = {}
    with _cache() as folder:
        apt = Apt(folder)
        for done, bucket in enumerate(wanted):
            progress(done, len(wanted))
            try:
                packages.append((bucket, _package(bucket.part, folder, apt)))
            except NoSuchPackageError as error:
                if bucket.name in chosen:
                    raise PretrainError(
                        "corpus.cannot", label=bucket.label, reason=str(error)
                    ) from None
                skipped[bucket.label] = error
        progress(len(wanted), len(wanted))
    for reason in dict.fromkeys(map(str, skipped.values())):
        labels = [label for label, why in skipped.items() if str(why) == reason]
        note("corpus.skipped", {"labels": ", ".join(labels), "reason": reason})
    if not packages:
        raise PretrainError("corpus.nothing", reason=str(next(iter(skipped.values()))))
    return Fetched(packages, {label: _english(why) for label, why in skipped.items()})


def _english(error: NoSuchPackageError) -> str:
    return translate(error.code, error.facts, lang="en", folder=error.folder)


def _package(part: Part, folder: Path, apt: Apt) -> Package:
    if part.wheel is not None and part.sha256 is not None:
        return _wheel(part.wheel, part.sha256, folder / "wheels" / part.sha256)
    if lacks := apt.missing():
        raise NoSuchPackageError("corpus.no-apt", program=lacks)
    if part.deb is not None:
        return apt.package(part.deb)
    assert part.translation is not None  # noqa: S101 - the catalogue has checked it
    return apt.translation(part.translation)


def _wheel(requirement: str, sha256: str, folder: Path) -> Package:
    name, _, version = requirement.partition("==")
    here = next((file for file in sorted(folder.glob("*.whl")) if _hash(file) == sha256), None)
    if here is None:
        folder.mkdir(parents=True, exist_ok=True)
        want = Want(sha256=sha256)
        here = fetch_whole_wheel(requirement, folder, want, source=f"pypi:{requirement}").path
    return Package(name=name, version=version, files=(File(here),), sha256=sha256)


def _hash(file: Path) -> str:
    with file.open("rb") as reader:
        return hashlib.file_digest(reader, "sha256").hexdigest()


@contextmanager
def _cache() -> Iterator[Path]:
    """The folder of what has been fetched, held so that two builds do not fetch at once."""
    folder = cache_dir() / "corpus"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with held(folder):
            yield folder
    except BlockingIOError:
        raise PretrainError("corpus.busy", path=str(folder)) from None
    except OSError as error:
        code = "store.disk-full" if error.errno == errno.ENOSPC else "store.io"
        reason = error.strerror or str(error)
        raise StoreError(code, path=str(folder), reason=reason) from error
