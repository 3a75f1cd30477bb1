"""What a person chooses for a board: `lucie.toml` on the partition that every computer can open.

Its sections are those of rpi-preseed, the format in which Raspberry Pi Imager 2 hands on what
was chosen there (`rpi-preseed.toml`): https://github.com/raspberrypi/rpi-preseed. Three are ours,
`locale.language`, `[class]` and `[update]`: one reader serves both files, and the later one wins.

How the files are read stands in `settings_file`.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic import StringConstraints as Text

__all__ = ["LASTING", "Class", "Locale", "Settings", "Ssh", "System", "Update", "User", "Wlan"]

LASTING = frozenset({"locale", "update"})
"""Sections of which what held before holds on where what is written cannot be heeded."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


def _hashed(value: str) -> str:
    """What crypt(5) calls a hashed passphrase, where it is one at all."""
    if value.startswith("$") and not re.fullmatch(r"\$[0-9a-z]{1,8}\$[!-9;-~]{8,200}", value):
        raise ValueError
    return value


def _ssid(value: str) -> str:
    """A name of at most 32 octets, as IEEE 802.11 has it."""
    if len(value.encode()) > 32 or not value.isprintable():
        raise ValueError
    return value


Line = Annotated[str, Text(min_length=1, max_length=1000, pattern=r"^[^\x00-\x1f\x7f]+$")]
Ssid = Annotated[str, AfterValidator(_ssid)]
Passphrase = Annotated[str, Text(pattern=r"^([ -~]{8,63}|[0-9a-fA-F]{64})?$")]
"""Of WPA: 8 to 63 ASCII characters, or the 256-bit key that was made of them."""
Typed = Annotated[str, Text(pattern=r"^([ -~]{8,63})?$")]
"""Without that key: a phone takes its 64 digits for what they are, and others type a passphrase."""
Key = Annotated[
    str, Text(max_length=20_000, pattern=r"^(ssh|ecdsa|sk)-[a-z0-9@.-]+ [A-Za-z0-9+/]+=*( .*)?$")
]


class System(_Section):
    """The board on the network."""

    hostname: Annotated[str, Text(pattern=r"^[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?$")] = (
        "lucie"
    )
    """One label of RFC 1123."""


class User(_Section):
    """Who looks after the board: with no password and no key, nobody can log in."""

    name: Annotated[str, Text(pattern=r"^[a-z][a-z0-9_-]{0,31}$")] = "lucie"
    """The account."""
    password: Annotated[Line, AfterValidator(_hashed)] | Literal[""] | None = None
    """In clear, or as crypt(5) writes it; the empty one is the end of the one before."""
    password_encrypted: bool = False
    """It is hashed already."""
    groups: tuple[Annotated[str, Text(pattern=r"^[a-z_][a-z0-9_-]{0,31}$")], ...] = ()
    """Groups that the account joins."""
    passwordless_sudo: bool = False
    """`sudo` asks for no password."""


class Ssh(_Section):
    """Log in over the network."""

    enabled: bool = False
    """The service runs where there is a key."""
    password_authentication: bool = False
    """It takes the password as well; there has to be a key all the same."""
    authorized_keys: tuple[Key, ...] = ()
    """Public keys, as in `~/.ssh/authorized_keys`."""


class Wlan(_Section):
    """The network to join. Where none is named, no radio is on."""

    ssid: Ssid = ""
    """Its name."""
    ssid_hex: Annotated[str, Text(pattern=r"^([0-9a-fA-F]{2}){0,32}$")] = ""
    """Its name as octets, where it is no UTF-8."""
    password: Passphrase = ""
    """The empty one is an open network's."""
    password_encrypted: bool = False
    """It is the key that was made of the passphrase."""
    hidden: bool = False
    """It does not tell its name."""
    country: Annotated[str, Text(pattern=r"^([A-Z]{2})?$")] = ""
    """Where the board is, in two letters: what channels are allowed."""


class Locale(_Section):
    """What people there speak and type."""

    language: Literal["en", "fr"] = "fr"
    """Of the chat and its messages."""
    keymap: Annotated[str, Text(pattern=r"^[A-Za-z0-9_.-]{1,40}$")] | None = None
    """Of the keyboard; the language's own where none is named."""
    timezone: Annotated[str, Text(pattern=r"^[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+){0,2}$")] = (
        "Europe/Paris"
    )
    """By its name in the tz database."""


class Class(_Section):
    """A class around the board: it opens a network of its own, and serves the chat there."""

    enabled: bool = False
    """It does."""
    ssid: Annotated[Ssid, Text(min_length=1)] = "Lucie"
    """The network's name."""
    password: Typed = ""
    """Made up at the first start, and shown on the screen, where none is given."""


class Update(_Section):
    """Updates from a stick."""

    keys: tuple[Key, ...] = ()
    """Public keys of those who may sign them."""


class Settings(_Section):
    """All of it."""

    system: System = System()
    user: User = User()
    ssh: Ssh = Ssh()
    wlan: Wlan = Wlan()
    locale: Locale = Locale()
    class_: Annotated[Class, Field(alias="class")] = Class()
    update: Update = Update()
