"""The components of an image in CycloneDX 1.6: https://cyclonedx.org/docs/1.6/json/."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import NAMESPACE_URL, uuid5

from cyclonedx.model import (
    ExternalReference,
    ExternalReferenceType,
    HashAlgorithm,
    HashType,
    XsUri,
)
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.bom_ref import BomRef
from cyclonedx.model.component import Component as Part
from cyclonedx.model.component import ComponentScope, ComponentType
from cyclonedx.model.contact import OrganizationalEntity
from cyclonedx.model.dependency import Dependency
from cyclonedx.model.license import LicenseAcknowledgement, LicenseExpression
from cyclonedx.output.json import JsonV1Dot6

from images.publishing.component import Component

__all__ = ["cyclonedx_document"]

_TYPES = {
    "image": ComponentType.OPERATING_SYSTEM,
    "package": ComponentType.LIBRARY,
    "library": ComponentType.LIBRARY,
    "model": ComponentType.MACHINE_LEARNING_MODEL,
    "file": ComponentType.FILE,
    "data": ComponentType.DATA,
}


def cyclonedx_document(image: Component, time: int) -> str:
    """As JSON, the same text for the same image.

    Args:
        time: that it tells as its own, in seconds since 1970.
    """
    sources = [source for part in image.parts for source in part.learned_from]
    document = Bom(
        serial_number=uuid5(NAMESPACE_URL, f"{image.ref}#{image.sha256}"),
        metadata=BomMetaData(timestamp=datetime.fromtimestamp(time, UTC), component=_part(image)),
        components=[*map(_part, image.parts), *map(_part, sources)],
        dependencies=[_dependency(each) for each in image.all()],
    )
    return JsonV1Dot6(document).output_as_string(indent=1) + "\n"


def _part(component: Component) -> Part:
    inner = () if component.kind == "image" else component.parts
    return Part(
        type=_TYPES[component.kind],
        bom_ref=component.ref,
        name=component.name,
        version=component.version or None,
        description=component.summary or None,
        supplier=OrganizationalEntity(name=component.supplier) if component.supplier else None,
        # What a model learned from is told, and is not there.
        scope=ComponentScope.EXCLUDED if component.kind == "data" else None,
        licenses=_licences(component),
        purl=component.purl,
        hashes=[_sha256(component.sha256)] if component.sha256 else (),
        external_references=[_website(component.website)] if component.website else (),
        components=map(_part, inner),
    )


def _licences(component: Component) -> list[LicenseExpression]:
    if component.licence is None:
        return []
    declared = LicenseAcknowledgement.DECLARED
    return [LicenseExpression(component.licence.expression, acknowledgement=declared)]


def _sha256(digest: str) -> HashType:
    return HashType(alg=HashAlgorithm.SHA_256, content=digest)


def _website(address: str) -> ExternalReference:
    return ExternalReference(type=ExternalReferenceType.WEBSITE, url=XsUri(address))


def _dependency(component: Component) -> Dependency:
    needed = (*component.parts, *component.learned_from)
    return Dependency(BomRef(component.ref), [Dependency(BomRef(each.ref)) for each in needed])
