"""One more component in the lists of an image that others have written: what they say stays.

Both formats name each thing once, and refer to it by that name; so two lists of one image are one
list when the things, and what belongs to what, are put together.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["merged_cdx", "merged_spdx"]

_Thing = Mapping[str, Any]


def merged_cdx(before: str, more: str) -> str:
    """CycloneDX: the list `more`, with all that the list `before` has.

    Args:
        before: of the image as it was, under any name.
        more: of the image as it is, with what has come to it only.

    Raises:
        ValueError: `before` is no such list.
    """
    new = json.loads(more)
    image = new["metadata"]["component"]["bom-ref"]
    try:
        old = json.loads(before)
        old = _renamed(old, old["metadata"]["component"]["bom-ref"], image)
        things = _each_once([*old["components"], *new["components"]], "bom-ref")
        needs: dict[str, set[str]] = {}
        for each in (*old["dependencies"], *new["dependencies"]):
            needs.setdefault(each["ref"], set()).update(each.get("dependsOn", ()))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"CycloneDX: {error}") from error
    new["components"] = things
    new["dependencies"] = [
        {"dependsOn": sorted(on), "ref": ref} if on else {"ref": ref}
        for ref, on in sorted(needs.items())
    ]
    return json.dumps(new, indent=1) + "\n"


def merged_spdx(before: str, more: str) -> str:
    """SPDX, as `merged_cdx` does it.

    Raises:
        ValueError: `before` is no such list.
    """
    new = json.loads(more)
    image = new["packages"][0]["SPDXID"]
    licences = "hasExtractedLicensingInfos"
    try:
        old = json.loads(before)
        old = _renamed(old, old["packages"][0]["SPDXID"], image)
        new["packages"] = _each_once(
            [new["packages"][0], *old["packages"], *new["packages"]], "SPDXID"
        )
        relations = [*old["relationships"], *new["relationships"]]
        new["relationships"] = list({json.dumps(r, sort_keys=True): r for r in relations}.values())
        texts = _each_once([*old[licences], *new[licences]], "licenseId")
        new[licences] = sorted(texts, key=lambda each: str(each["licenseId"]))
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise ValueError(f"SPDX: {error}") from error
    return json.dumps(new, ensure_ascii=False, indent=1) + "\n"


def _each_once(things: Iterable[_Thing], name: str) -> list[_Thing]:
    """The first of each name, in their order."""
    found: dict[str, _Thing] = {}
    for each in things:
        found.setdefault(each[name], each)
    return list(found.values())


def _renamed(told: Any, before: str, now: str) -> Any:
    """What is told, with one name instead of another wherever it stands alone."""
    if isinstance(told, dict):
        return {key: _renamed(value, before, now) for key, value in told.items()}
    if isinstance(told, list):
        return [_renamed(each, before, now) for each in told]
    return now if told == before else told
