"""The components of an image in SPDX 2.3: https://spdx.github.io/spdx-spec/v2.3/.

Written here and not by SPDX's own library, whose files are against SPDX's own schema.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from uuid import NAMESPACE_URL, uuid5

from edge import __version__
from images.publishing.component import Component

__all__ = ["spdx_document"]

_DOCUMENT = "SPDXRef-DOCUMENT"
_UNSAID = "NOASSERTION"
_PURPOSES = {
    "image": "OPERATING_SYSTEM",
    "package": "LIBRARY",
    "library": "LIBRARY",
    "model": "OTHER",
    "file": "FILE",
    "data": "SOURCE",
}


def spdx_document(image: Component, time: int) -> str:
    """As JSON, the same text for the same image.

    Args:
        time: that it tells as its own, in seconds since 1970.
    """
    components = {each.ref: each for each in image.all()}.values()
    identity = uuid5(NAMESPACE_URL, f"{image.ref}#{image.sha256}")
    document = {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": _DOCUMENT,
        "name": image.name,
        "documentNamespace": f"https://spdx.org/spdxdocs/{image.name}-{identity}",
        "creationInfo": {
            "created": datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "creators": [f"Tool: lucie-edge-{__version__}"],
        },
        "packages": [_package(each) for each in components],
        "relationships": [
            _relation(_DOCUMENT, "DESCRIBES", _id(image)),
            *(relation for each in components for relation in _relations(each)),
        ],
        "hasExtractedLicensingInfos": _texts(components),
    }
    return json.dumps(document, ensure_ascii=False, indent=1) + "\n"


def _id(component: Component) -> str:
    name = re.sub(r"[^A-Za-z0-9.]+", "-", component.ref)
    if component.kind in {"data", "file"}:  # of any name, which may differ in such signs only
        name += f"-{hashlib.sha256(component.ref.encode()).hexdigest()[:8]}"
    return f"SPDXRef-{name}"


def _package(component: Component) -> dict[str, object]:
    licence, purl = component.licence, component.purl
    told: dict[str, object] = {
        "SPDXID": _id(component),
        "name": component.name,
        "versionInfo": component.version,
        "summary": component.summary,
        "homepage": component.website,
        "supplier": f"Organization: {component.supplier}" if component.supplier else _UNSAID,
        "downloadLocation": _UNSAID,
        "filesAnalyzed": False,
        "licenseConcluded": _UNSAID,
        "licenseDeclared": licence.expression if licence else _UNSAID,
        "copyrightText": _UNSAID,
        "primaryPackagePurpose": _PURPOSES[component.kind],
    }
    if component.sha256:
        told["checksums"] = [{"algorithm": "SHA256", "checksumValue": component.sha256}]
    if purl:
        place = {"referenceType": "purl", "referenceLocator": purl.to_string()}
        told["externalRefs"] = [{"referenceCategory": "PACKAGE-MANAGER", **place}]
    return {field: value for field, value in told.items() if value != ""}


def _relations(component: Component) -> Iterator[dict[str, str]]:
    for each in component.parts:
        yield _relation(_id(component), "CONTAINS", _id(each))
    for each in component.learned_from:
        yield _relation(_id(component), "GENERATED_FROM", _id(each))


def _relation(one: str, kind: str, other: str) -> dict[str, str]:
    return {"spdxElementId": one, "relationshipType": kind, "relatedSpdxElement": other}


def _texts(components: Iterable[Component]) -> list[dict[str, str]]:
    """What SPDX has no name for, in full."""
    found = {
        name: text
        for each in components
        if each.licence is not None
        for name, text in each.licence.texts.items()
    }
    return [
        {"licenseId": name, "name": name, "extractedText": text}
        for name, text in sorted(found.items())
    ]
