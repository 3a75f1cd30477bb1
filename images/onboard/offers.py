"""Models that may be used: written by root, shown by the chat, chosen there by a key.

    /run/lucie-stick/offers/sdb1-NAME    root's; `text` of it is what the chat shows, and `ask` what
                                         it asks before that is chosen; card-NAME is of the card
                                         itself, trash-NAME its removal from there
    /run/lucie-choice/offer              the chat's; the name of one of those files, no more

The chat is trusted with a choice only: where a model is, and what it is, root has written itself.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from images.onboard.writing import remove, replace

__all__ = ["CARD", "CHOICE", "OFFERS", "TRASH", "Offer", "chosen", "make", "offers", "withdraw"]

OFFERS = Path("/run/lucie-stick/offers")
CARD = "card"
"""The device of what no stick need be there for."""
TRASH = "trash"
"""That of what is to be removed from the card."""
CHOICE = Path("/run/lucie-choice/offer")
_NAME = re.compile(r"[a-z0-9]+-[a-z0-9][a-z0-9._-]{0,95}")
_LONGEST = 120
"""Bytes of a choice."""


class Offer(BaseModel):
    """A model that may be used."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    text: str
    """What a person is told of it, in a line."""
    ask: str = ""
    """What is asked before it is chosen; nothing, where a choice may be taken back."""
    title: str
    """How it is called."""
    name: str
    """Of the bundle, and of its folder in the store."""
    device: str
    """By Linux's name: the part of a stick that it is on; or `CARD`, or `TRASH`."""
    folder: str
    """Where it is there, from the top, or among the models of the card."""
    sha256: str
    """Of its manifest: a stick may have become another one."""


def make(offer: Offer) -> None:
    """Have the chat offer it.

    Raises:
        OSError: it cannot be written.
    """
    replace(OFFERS / f"{offer.device}-{offer.name}", offer.model_dump_json().encode())


def offers(device: str) -> list[Path]:
    """Those of a stick, or of the card."""
    return sorted(OFFERS.glob(f"{device}-*"))


def withdraw(device: str) -> None:
    """Offer nothing any more of that stick, or of the card.

    Raises:
        OSError: it cannot be taken away.
    """
    for file in offers(device):
        file.unlink(missing_ok=True)


def chosen() -> Offer | None:
    """What the chat has chosen, which is chosen no more then; None: nothing that is offered.

    Raises:
        OSError: it cannot be read.
    """
    name = _choice()
    if _NAME.fullmatch(name) is None:
        return None
    try:
        return Offer.model_validate_json((OFFERS / name).read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


def _choice() -> str:
    """Its folder is the chat's: a link, a pipe, or any bytes may lie there."""
    try:
        descriptor = os.open(CHOICE, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return ""
    except OSError:
        remove(CHOICE)
        return ""
    try:
        regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
        raw = os.read(descriptor, _LONGEST) if regular else b""
    finally:
        os.close(descriptor)
    remove(CHOICE)
    return raw.decode("ascii", errors="replace").strip()
