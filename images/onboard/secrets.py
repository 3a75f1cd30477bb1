"""Passwords: taken off the partition that every computer can open, and kept where root alone reads.

What lies on a card in clear is read by whoever finds the card. After the first start there is a
hash of an account's password, and what a network must be told, which has no hash.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from images.onboard.settings import Settings
from images.onboard.settings_file import Complaint, as_text

__all__ = ["Kept", "kept_in", "settle", "without_passwords"]

_SECTIONS = ("user", "wlan", "class")
"""Those that have a password."""
_NOTE = "password: gardé sur la carte, et non plus ici / kept on the card, and no more in here"
# What looks like nothing else on a screen, and lies at the same place on most keyboards.
_LETTERS = "bcdefghjknprstuvx"


class Kept(BaseModel):
    """What is kept. A later version may write more, and this one may run again after it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    account: str = ""
    """As crypt(5) writes it; empty: there is none."""
    networks: dict[str, str] = {}
    """By the name of a network."""
    own: str = ""
    """Of the network that the board opens."""


def kept_in(file: Path) -> Kept:
    """What is kept there: nothing, where the file is missing or damaged."""
    try:
        return Kept.model_validate_json(file.read_bytes())
    except (OSError, ValidationError):
        return Kept()


def settle(settings: Settings, kept: Kept, hashed: Callable[[str], str]) -> tuple[Settings, Kept]:
    """Settings with the passwords that hold, and what is to be kept of them.

    A password that is written replaces the one that is kept. One of a network is for the network
    of that name.

    Args:
        settings: as they are written.
        kept: at the last start.
        hashed: makes of an account's password what crypt(5) writes.
    """
    account = settings.user.password
    if account is None:
        account = kept.account
    elif account and not account.startswith("$"):
        account = hashed(account)
    wlan, own = settings.wlan, settings.class_.password or kept.own
    name = wlan.ssid or wlan.ssid_hex
    networks = {name: wlan.password} if wlan.password else kept.networks
    # The empty name: a password was written before its network's name was.
    joined = networks.get(name) or networks.get("", "")
    if settings.class_.enabled and not own:
        own = "".join(secrets.choice(_LETTERS) for _ in range(10))
    passwords = {"user": account or None, "wlan": joined, "class_": own}
    sections = {
        section: getattr(settings, section).model_copy(update={"password": password})
        for section, password in passwords.items()
    }
    return settings.model_copy(update=sections), Kept(account=account, networks=networks, own=own)


def without_passwords(file: Path, complaints: Iterable[Complaint]) -> bytes | None:
    """A file of settings as it is without its passwords; None: there are none.

    Args:
        file: of TOML.
        complaints: of its reading. What is not heeded stays where a person can mend it.

    Raises:
        OSError: it cannot be read.
        ValueError: it is TOML for one reader, and not for the other.
    """
    import tomlkit

    unheeded = {complaint.field for complaint in complaints if complaint.file == file.name}
    if "" in unheeded:  # all of it
        return None
    document = tomlkit.parse(as_text(file.read_bytes()))
    tables = [
        table
        for section in _SECTIONS
        if isinstance(table := document.get(section), dict)
        and table.get("password")
        and f"{section}.password" not in unheeded
    ]
    for table in tables:
        _strike(table)
    return tomlkit.dumps(document).encode() if tables else None


def _strike(table: Any) -> None:
    """Put a note in the place of a password."""
    import tomlkit
    from tomlkit.items import Table

    table.pop("password_encrypted", None)
    if not isinstance(table, Table):  # it is on one line, which has no place for a note
        del table["password"]
        return
    body = table.value.body
    at = next(n for n, (key, _) in enumerate(body) if key is not None and key.key == "password")
    body[at] = (None, tomlkit.comment(_NOTE))
