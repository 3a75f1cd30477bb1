"""The documents in the files of a package, one function for each form of file."""

from __future__ import annotations

import gzip
import io
import json
import re
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO

from pretrain.corpus.archive import members
from pretrain.corpus.catalog import Bucket
from pretrain.corpus.html_text import page_text
from pretrain.errors import PretrainError

__all__ = ["extract"]

Found = Iterator[tuple[str, str]]
"""A name within the source, and the text as it is found."""

_UNEXPECTED = (
    ValueError, LookupError, TypeError, AttributeError, RecursionError, AssertionError,
    EOFError, zlib.error, gzip.BadGzipFile, tarfile.TarError, zipfile.BadZipFile,
)  # fmt: skip
"""What reading a file raises that is not of the form that was expected."""
_UNSOURCED = re.compile(r"\[(?:cita\s+requerida|réf\.\s+nécessaire|citation\s+needed)\]")
_LOST_TEMPLATE = re.compile(r"\s+[.,;)]|\(\s*\)|\b(?:de|d’|von|see)\s*[.,;]?$")
"""What is left of a definition where Wiktionary has a template: "Variante de .\""""
_BULLET = re.compile(r" [*·•o+–-] ")
_DEMONYM = re.compile(r"^(?:Habitante?|Relati(?:f|ve)) (?:de|d’|à|au|aux|du)\b")
"""Of 436,000 French entries 100,000 say no more than of which commune somebody is."""


def extract(bucket: Bucket, file: Path) -> Found:
    """Names and texts of a bucket's documents, in the order of a file of its package.

    Raises:
        PretrainError: the package is damaged, or not of the form that the catalogue says.
    """
    try:
        yield from _EXTRACTORS[bucket.source.extractor](bucket, file)
    except _UNEXPECTED as error:
        # What the files are made of is the packages' business: whatever is not as it was is said.
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        raise PretrainError("corpus.bad-package", name=str(file), reason=reason) from error


def _summaries(bucket: Bucket, file: Path) -> Found:
    """`{title: {"title", "extract"}}`: the first paragraph of an article."""
    for _, reader in members(file, bucket.part):
        for article in json.loads(reader.read()).values():
            yield (
                article["title"],
                f"{article['title']}\n\n{_UNSOURCED.sub('', article['extract'])}",
            )


def _glosses(bucket: Bucket, file: Path) -> Found:
    """Lines `word⇥definition | definition`, compressed."""
    colon = " :" if bucket.part.language == "fr" else ":"
    for _, reader in members(file, bucket.part):
        with gzip.open(reader, "rt", encoding="utf-8") as lines:
            for line in lines:
                word, _, told = line.rstrip("\n").partition("\t")
                senses = [_sentence(sense.strip()) for sense in told.split(" | ")]
                senses = [s for s in senses if not _LOST_TEMPLATE.search(s.rstrip("."))]
                if not senses or (len(senses) == 1 and _DEMONYM.match(senses[0])):
                    continue
                if len(senses) == 1:
                    yield word, f"{word}{colon} {senses[0]}"
                else:
                    numbered = (f"{n}. {sense}" for n, sense in enumerate(senses, 1))
                    yield word, "\n".join([f"{word}{colon}", *numbered])


def _sentence(sense: str) -> str:
    return sense if not sense or sense[-1] in ".!?…" else f"{sense}."


_SYNSET_WORDS = 4


def _synsets(bucket: Bucket, file: Path) -> Found:
    """`data.noun`… (wndb(5WN)): offset, file, type, count of words in hexadecimal, each word and
    its number, pointers; after `|` the gloss and its examples."""
    for name, reader in members(file, bucket.part):
        kind = name.rpartition(".")[2]
        for raw in reader:
            line = raw.decode("ascii")
            if line.startswith("  "):  # the licence
                continue
            fields, _, gloss = line.partition(" | ")
            words = fields.split(" ")
            last = _SYNSET_WORDS + 2 * int(words[3], 16)
            # An adjective may say where it stands: "galore(ip)".
            terms = [w.partition("(")[0].replace("_", " ") for w in words[_SYNSET_WORDS:last:2]]
            yield f"{kind}/{words[0]}", f"{', '.join(terms)} ({kind}): {gloss.strip()}"


def _descriptions(bucket: Bucket, file: Path) -> Found:
    """apt's `Translation-xx`: a summary, then lines that are indented by a space; two spaces
    keep a line as it is, and a dot alone parts paragraphs (Debian Policy, 5.6.13)."""
    start = f"Description-{bucket.part.language}: "
    name = md5 = ""
    told: list[str] = []
    with file.open(encoding="utf-8") as lines:
        for line in lines:
            if line.startswith(start):
                told = [line[len(start) :].strip(), " ."]
            elif line.startswith(" ") and told:
                told.append(line.rstrip())
            elif line.startswith("Package: "):
                name = line[9:].strip()
            elif line.startswith("Description-md5: "):
                md5 = line[17:].strip()
            elif not line.strip() and told:
                yield f"{name}/{md5[:8]}", _described(told)
                told = []
    if told:
        yield f"{name}/{md5[:8]}", _described(told)


def _described(lines: list[str]) -> str:
    """The text of a description's lines; those of a paragraph become one."""
    made: list[str] = []
    between = ""
    """What parts the next line from the text before it; a line that is kept stands alone."""
    for line in lines:
        kept = line.startswith("  ")
        if line == " .":
            between = "\n\n"
            continue
        if between == " " and (kept or _BULLET.match(line)):
            between = "\n"
        made.append(between + line.strip())
        between = "\n" if kept else " "
    return "".join(made)


def _pages(bucket: Bucket, file: Path) -> Found:
    """Pages of documentation."""
    for name, reader in members(file, bucket.part):
        # A page in another encoding shows by the character that says so, and is dropped.
        yield name, page_text(reader.read().decode("utf-8", errors="replace"))


def _modules(bucket: Bucket, file: Path) -> Found:
    """Source files."""
    for name, reader in members(file, bucket.part):
        yield name, _source_text(reader)


def _source_text(reader: IO[bytes]) -> str:
    return io.TextIOWrapper(io.BytesIO(reader.read()), encoding="utf-8-sig").read()


_EXTRACTORS: Mapping[str, Callable[[Bucket, Path], Found]] = {
    "summaries": _summaries,
    "glosses": _glosses,
    "synsets": _synsets,
    "descriptions": _descriptions,
    "pages": _pages,
    "modules": _modules,
}
