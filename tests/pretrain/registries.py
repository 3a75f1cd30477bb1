"""Package registries that are folders: an index of wheels, and a Debian with a false apt-get."""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

__all__ = ["FALSE_APT", "deb", "use_debian", "use_index", "wheel"]

FALSE_APT = """#!{python}
import pathlib, shutil, sys
words = [word for word in sys.argv[1:] if not word.startswith("-")]
options = dict(word[9:].split("=", 1) for word in sys.argv[1:] if word.startswith("--option="))
mirror = pathlib.Path({mirror!r})
with (mirror / "calls").open("a") as log:
    print(*words, file=log)
lists = pathlib.Path(options["Dir::State::Lists"])
if (mirror / "down").exists():
    sys.exit("E: Failed to fetch http://mirror.invalid  Could not resolve")
if words[0] == "update":
    silent = (mirror / "silent").read_text().split() if (mirror / "silent").exists() else []
    for file in (mirror / "lists").iterdir():
        if file.name not in silent:
            shutil.copy(file, lists / file.name)
    if silent and options.get("APT::Update::Error-Mode") == "any":
        print("E: Failed to fetch", silent[0])
        print("E: Some index files failed to download.")
        sys.exit(100)
else:
    found = sorted(mirror.glob(words[1] + "_*.deb"))
    if not found:
        print("E: Unable to locate package", words[1])
        sys.exit(100)
    shutil.copy(found[0], found[0].name)
"""
"""What apt-get does, as far as it is asked here."""


def wheel(folder: Path, name: str, version: str, members: Mapping[str, bytes]) -> str:
    """Make the wheel of `name` in `folder`; returns its SHA-256."""
    plain = name.replace("-", "_")
    path = folder / f"{plain}-{version}-py3-none-any.whl"
    info = f"{plain}-{version}.dist-info"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, content in members.items():
            archive.writestr(member, content)
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        archive.writestr(f"{info}/METADATA", metadata)
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return hashlib.sha256(path.read_bytes()).hexdigest()


def use_index(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make pip take packages from `folder` alone."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))


def deb(
    mirror: Path, name: str, version: str, files: Mapping[str, str], date: int, packed: str = "xz"
) -> None:
    """Make a Debian package whose files are of that time (Unix seconds), by dpkg-deb itself."""
    root = mirror / f".{name}"
    (root / "DEBIAN").mkdir(parents=True)
    (root / "DEBIAN/control").write_text(
        f"Package: {name}\nVersion: {version}\nArchitecture: all\n"
        "Maintainer: Nobody <nobody@example.org>\nDescription: text\n"
    )
    for path, content in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(content, encoding="utf-8")
    for path in [root, *root.rglob("*")]:
        os.utime(path, (date, date))
    made = mirror / f"{name}_{version}_all.deb"
    subprocess.run(
        ["dpkg-deb", "--build", "--root-owner-group", f"-Z{packed}", root, made],
        check=True,
        stdout=subprocess.DEVNULL,
        env=os.environ | {"SOURCE_DATE_EPOCH": str(date)},
    )


def use_debian(mirror: Path, programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make `apt-get` take packages and lists from `mirror`."""
    program = programs / "apt-get"
    program.write_text(FALSE_APT.format(python=sys.executable, mirror=str(mirror)))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
