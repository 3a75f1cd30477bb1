"""The bundle of an image, with all that goes with it, of a card of a few megabytes."""

from __future__ import annotations

import io
import lzma
import shutil
import subprocess
import tarfile
from importlib.metadata import distribution
from pathlib import Path

from edge.bundle import Bundle
from edge.manifest import DataSource, Manifest
from images.building.papers import papers
from images.building.program import lay_out
from images.publishing.packages import unpacked
from tests.images.images import content

COPYRIGHT = """\
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/

Files: *
Copyright: 2020 Somebody
License: GPL-2+ or Artistic, and house-rules

Files: debian/*
Copyright: 2021 Somebody Else
License: Expat

License: house-rules
 Wipe your feet.
"""

PACKAGES = """\
Package: greeting
Source: greetings (3.0)
Version: 3.0-1
Architecture: arm64
Maintainer: Somebody <somebody@example.org>
Depends: libc6 (>= 2.41), greeting-data (= 3.0-1)
Homepage: https://example.org/greeting
Description: says hello
 At length.
Filename: greeting_3.0-1_arm64.deb
Size: 1000
SHA256: {one}

Package: greeting-data
Source: greetings (3.0)
Version: 3.0-1
Architecture: all
Maintainer: Somebody <somebody@example.org>
Description: what is said
Filename: greeting-data_3.0-1_all.deb
Size: 2000
SHA256: {two}
""".format(one="1" * 64, two="2" * 64)


def archive(folder: Path) -> tuple[Path, Path]:
    """A list of Debian's packages and their archive: one has the other's `copyright` file."""
    folder.mkdir()
    (folder / "Packages").write_text(PACKAGES, encoding="utf-8")
    with tarfile.open(folder / "packages.tar", "w") as tar:
        member = tarfile.TarInfo("./usr/share/doc/greeting-data/copyright")
        member.size = len(COPYRIGHT.encode())
        tar.addfile(member, io.BytesIO(COPYRIGHT.encode()))
    return folder / "Packages", folder / "packages.tar"


def site(folder: Path) -> Path:
    """What a board has of Python: this project, llama.cpp, and one package that they need."""
    engine, wheels = folder / "engine", folder / "wheels"
    (engine / "llama_cpp").mkdir(parents=True)
    wheels.mkdir()
    info = Path(str(distribution("httpx-sse").locate_file("")))
    [found] = info.glob("httpx_sse-*.dist-info")
    shutil.copytree(found, wheels / found.name)
    lay_out(folder / "site", engine, wheels)
    return folder / "site"


def model(folder: Path) -> Bundle:
    """Of one file."""
    weights = folder.with_name("weights")
    weights.write_bytes(b"GGUF")
    manifest = Manifest(
        kind="gguf",
        name="tiny",
        recipe={"source": "pypi:tiny-model==0.1/tiny/tiny.gguf"},
        licence="Apache-2.0",
        languages=("fr",),
        provenance="declared",
        data=(
            DataSource(name="Les Misérables", licence="CC0-1.0", url="https://example.org/book"),
            DataSource(name="Les Misères", licence="as it pleases", url="ask a librarian"),
            DataSource(name="Les Mis res"),
        ),
    )
    return Bundle.write(folder, manifest, {"tiny.gguf": weights})


def all_are_summed(folder: Path) -> None:
    """SHA256SUMS has the hash of all that is handed on, by another program's judgement."""
    names = [line.split("  ")[1] for line in (folder / "SHA256SUMS").read_text().splitlines()]
    handed_on = {file.name for file in folder.iterdir()} - {"SHA256SUMS", "manifest.json"}
    assert sorted(names) == sorted(handed_on)
    subprocess.run(["sha256sum", "--quiet", "--strict", "-c", "SHA256SUMS"], cwd=folder, check=True)


def image_bundle(out: Path, work: Path, tags: tuple[str, ...] = ("pi3-64bit",)) -> Bundle:
    """What `lucie image build` makes, but for what is on the card."""
    card = work / "card"
    card.mkdir(parents=True)
    (card / "lucie.img").write_bytes(content())
    (card / "lucie.img.xz").write_bytes(lzma.compress(content()))
    (card / "lucie.img.bmap").write_text("<bmap/>", encoding="utf-8")
    debian = unpacked(*archive(work / "debian"), "trixie")
    papers(card, debian, site(work / "python"), model(work / "model"), tags, "fr")
    (card / "lucie.img").unlink()
    files = {file.name: file for file in card.iterdir()}
    return Bundle.write(out, Manifest(kind="image", name=out.name, provenance="declared"), files)
