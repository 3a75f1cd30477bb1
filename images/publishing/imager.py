"""How Raspberry Pi Imager offers images: its list of systems, as JSON.

Its schema: https://github.com/raspberrypi/rpi-imager, doc/json-schema/os-list-schema.json.
Imager 2.0.11 is the first that knows how our boards take what is chosen in it (`rpi-preseed`);
earlier ones leave such an image out. It shows nothing of a list that names no devices.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from images.boards import boards

__all__ = ["MANIFEST", "OS_LIST", "Device", "Devices", "Entry", "OsList", "os_list"]

OS_LIST = ".os_list.json"
"""How the name of such a list ends where it is published."""
MANIFEST = ".rpi-imager-manifest"
"""And where a person opens it: Imager is started for such a file."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("control characters are not allowed")
    return text


Text = Annotated[str, StringConstraints(min_length=1, max_length=300), AfterValidator(_printable)]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Size = Annotated[int, Field(gt=0)]
Tag = Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]{1,40}$")]


class Entry(_Part):
    """One image."""

    name: Text
    """As it stands in the list."""
    description: Text
    """What stands below."""
    icon: Text
    """Address of a picture of 40 × 40 pixels."""
    url: Text
    """Address of the packed image. In a bundle, this one and the others are names of files."""
    bmap_url: Text
    """Address of its block map."""
    extract_size: Size
    """Bytes of what is written on a card."""
    extract_sha256: Sha256
    """Its hash; where it is another, Imager leaves the card unusable."""
    image_download_size: Size
    """Bytes of the packed image."""
    image_download_sha256: Sha256
    """Its hash."""
    release_date: Annotated[str, StringConstraints(pattern=r"^\d{4}-\d{2}-\d{2}$")]
    """Day of its files."""
    init_format: Literal["rpi-preseed"] = "rpi-preseed"
    """How it takes what is chosen in Imager: `images/onboard/settings.py`."""
    capabilities: tuple[Literal["passwordless_sudo"], ...] = ("passwordless_sudo",)
    """What may be chosen beside names, networks and keys."""
    architecture: Literal["armv8"] = "armv8"
    """Of its programs."""
    devices: Annotated[tuple[Tag, ...], Field(min_length=1)]
    """Tags of the boards that it is for."""


class Device(_Part):
    """A board, which a person chooses first."""

    name: Text
    """As people write it."""
    description: Text
    """What stands below."""
    tags: tuple[Tag, ...]
    """Those of `Entry.devices` that are for it."""
    matching_type: Literal["exclusive"] = "exclusive"
    """Images without tags are not for it."""
    architecture: Literal["armv8"] = "armv8"
    """What it runs best."""


class Devices(_Part):
    """What the list says of Imager itself."""

    devices: tuple[Device, ...]
    """Boards to choose from."""


class OsList(_Part):
    """The list."""

    imager: Devices
    """Boards."""
    os_list: tuple[Entry, ...]
    """Images."""

    def text(self) -> str:
        """As JSON."""
        return self.model_dump_json(indent=2) + "\n"


def os_list(entries: Sequence[Entry]) -> OsList:
    """The list of these, and of the boards that they are for."""
    tags = {tag for entry in entries for tag in entry.devices}
    devices = tuple(
        Device(name=board.title, description=board.processor, tags=board.imager)
        for board in boards().values()
        if tags.intersection(board.imager)
    )
    return OsList(imager=Devices(devices=devices), os_list=tuple(entries))
