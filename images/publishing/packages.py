"""Debian's packages as components: unpacked in an archive, or installed below a folder."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Collection, Iterable, Mapping
from email.utils import parseaddr
from pathlib import Path

from debian.deb822 import Packages
from packageurl import PackageURL

from images.publishing.component import Component
from images.publishing.copyright_file import licence_of
from images.publishing.licences import Licence

__all__ = ["installed", "unpacked"]

_COPYRIGHT = re.compile(r"\./usr/share/doc/([^/]+)/copyright")


def unpacked(listed: Path, archive: Path, suite: str) -> list[Component]:
    """All that are in the archive of a file system, by name.

    Args:
        listed: their control fields and the hash of each, as an index of apt's has them.
        archive: with their `copyright` files.
        suite: of Debian.
    """
    found = {each["Package"]: each for each in _paragraphs(listed)}
    licences = _licences(found, archive)
    return [_component(found[name], licences.get(name), suite) for name in sorted(found)]


def installed(root: Path, names: Collection[str], suite: str) -> list[Component]:
    """Those of these that are installed in the file system below `root`."""
    told = []
    for package in _paragraphs(root / "var/lib/dpkg/status"):
        if (name := package["Package"]) in names:
            text = (root / f"usr/share/doc/{name}/copyright").read_text("utf-8", "replace")
            told.append(_component(package, licence_of(text, package.source or name), suite))
    return told


def _paragraphs(file: Path) -> Iterable[Packages]:
    with file.open("rb") as opened:
        yield from Packages.iter_paragraphs(opened, use_apt_pkg=False)


def _component(package: Packages, licence: Licence | None, suite: str) -> Component:
    name, version = package["Package"], package["Version"]
    qualifiers = {"arch": package["Architecture"], "distro": suite}
    if package.source != name:
        qualifiers["upstream"] = f"{package.source}@{package.source_version}"
    return Component(
        kind="package",
        name=name,
        version=version,
        licence=licence,
        purl=PackageURL("deb", "debian", name, version, qualifiers),
        sha256=package.get("SHA256", ""),
        supplier=parseaddr(package["Maintainer"])[0],
        summary=package["Description"].splitlines()[0],
        homepage=package.get("Homepage", ""),
    )


def _licences(found: Mapping[str, Packages], archive: Path) -> dict[str, Licence]:
    """By package: of its own file, or of the package that its folder is a link to.

    Such a link, which the archive does not have, leads to a package of the same version that it
    depends on: https://www.debian.org/doc/debian-policy/ch-docs.html#copyright-information.
    """
    own = {
        name: licence_of(text, found[name].source or name)
        for name, text in _copyright_files(archive).items()
        if name in found
    }
    holders = {name: _holder(name, found, own) for name in found}
    return {name: own[holder] for name, holder in holders.items() if holder is not None}


def _holder(name: str, found: Mapping[str, Packages], own: Mapping[str, Licence]) -> str | None:
    """The package whose `copyright` file tells of this one."""
    seen, ahead = set[str](), [name]
    while ahead:
        name = ahead.pop(0)
        if name in own:
            return name
        seen.add(name)
        ahead += [each for each in _same_version(found[name]) if each in found and each not in seen]
    return None


def _same_version(package: Packages) -> Iterable[str]:
    """What it needs in its own version."""
    for choices in package.relations["depends"] or ():
        for choice in choices:
            if choice["version"] == ("=", package["Version"]):
                yield choice["name"]


def _copyright_files(archive: Path) -> dict[str, str]:
    with tarfile.open(archive) as members:
        return {
            match[1]: opened.read().decode("utf-8", "replace")
            for member in members
            if (match := _COPYRIGHT.fullmatch(member.name))
            and (opened := members.extractfile(member))
        }
