"""Python's packages as components: of what an installer has written down beside them."""

from __future__ import annotations

import re
from email.utils import getaddresses
from importlib.metadata import Distribution
from importlib.metadata import distributions as found
from pathlib import Path

from packageurl import PackageURL

from images.publishing.component import Component
from images.publishing.licences import Licence, listed, unlisted

__all__ = ["distributions"]

_CLASSIFIER = "License :: OSI Approved :: "
_CLASSIFIED = {"Apache Software License": "Apache-2.0", "MIT License": "MIT"}
"""Those that name one licence; "BSD License" is several."""
_PAGES = ("homepage", "source", "source code", "repository")


def distributions(site: Path) -> list[Component]:
    """All that are installed in a folder, by name."""
    told = [_component(each) for each in found(path=[str(site)])]
    return sorted(told, key=lambda component: component.name)


def _component(distribution: Distribution) -> Component:
    name = re.sub(r"[-_.]+", "-", distribution.name).lower()
    return Component(
        kind="library",
        name=name,
        version=distribution.version,
        licence=_licence(distribution, name),
        purl=PackageURL("pypi", None, name, distribution.version),
        supplier=_supplier(distribution),
        summary=distribution.metadata["Summary"] or "",
        homepage=_homepage(distribution),
    )


def _licence(distribution: Distribution, name: str) -> Licence | None:
    told = distribution.metadata
    classified = [
        _CLASSIFIED.get(line.removeprefix(_CLASSIFIER)) for line in told.get_all("Classifier") or ()
    ]
    for said in (told["License-Expression"], told["License"], *classified):
        if said and (expression := listed(said)):
            return Licence((expression,))
    texts = [
        distribution.read_text(f"licenses/{file}") or distribution.read_text(file) or ""
        for file in told.get_all("License-File") or ()
    ]
    whole = "\n\n".join(texts).strip()
    return unlisted(name, whole) if whole else None


def _supplier(distribution: Distribution) -> str:
    told = distribution.metadata
    addresses = getaddresses([told["Author-email"] or "", told["Maintainer-email"] or ""])
    names = (told["Author"], told["Maintainer"], *(name for name, _ in addresses))
    return next(filter(None, names), "")


def _homepage(distribution: Distribution) -> str:
    told = distribution.metadata
    urls = {
        label.strip().lower(): url.strip()
        for label, _, url in (each.partition(",") for each in told.get_all("Project-URL") or ())
    }
    pages = (told["Home-page"], *(urls.get(each) for each in _PAGES))
    return next(filter(None, pages), "")
