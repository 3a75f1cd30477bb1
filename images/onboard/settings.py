"""What a person chooses for a board: `lucie.toml` on the partition that every computer can open.

Its sections are those of rpi-preseed, the format in which Raspberry Pi Imager 2 hands on what
was chosen there (`rpi-preseed.toml`): https://github.com/raspberrypi/rpi-preseed. Three are ours,
`locale.language`, `[class]` and `[update]`: one reader serves both files, and the later one wins.

A board has to start, whatever is in the file: a value that is wrong is as if it were not there,
and a `Complaint` says where it stands and what is expected. Only where a file cannot be read is all
of it left. Of `LASTING` sections, what held before holds on: whoever mends a file reads what is
wrong in it in the language of the board.
"""

from __future__ import annotations

import codecs
import re
import tomllib
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic import StringConstraints as Text

from edge.messages import text
from images.words import FOLDER

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

__all__ = ["LASTING", "Class", "Complaint", "Locale", "Places", "Settings", "Ssh", "System",
           "Update", "User", "Wlan", "as_text", "read"]  # fmt: skip

Places = Mapping[str, tuple[str, int]]
"""File and line of fields, as `wlan.country`."""
LASTING = frozenset({"locale", "update"})
"""Sections of which what held before holds on where what is written cannot be heeded."""

_LARGEST = 1 << 14
_IGNORED = {"config_version"}
"""Of rpi-preseed: its own number."""
_OPEN, _CLOSED = frozenset("[{"), frozenset("]}")
_TOKEN = re.compile(
    r"""#[^\n]*|"{3}(?:\\.|[^\\])*?"{3,5}|'{3}.*?'{3,5}|"(?:\\.|[^"\\])*"|'[^']*'|[][{}\n]""",
    re.DOTALL,
)
"""What of TOML says whether a value goes on in the next line: comments and texts hide the rest."""


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


_SHIPPED = Settings()


@dataclass(frozen=True, slots=True)
class Complaint:
    """What of a file is not heeded, and why."""

    code: Literal[
        "unreadable",
        "not-utf8",
        "no-toml",
        "aside",
        "unknown",
        "unquoted",
        "wrong",
        "no-timezone",
        "no-keymap",
        "taken",
        "nobody",
        "one-radio",
        "stays",
        "unkept",
    ]
    file: str
    line: int = 0
    """Counted from 1."""
    field: str = ""
    """As `wlan.country`."""
    reason: str = ""

    def say(self, lang: str | None = None) -> str:
        """One line for a person."""
        expected = ""
        if self.code in {"unquoted", "wrong"}:
            entry = "expects-" + re.sub(r"[._]", "-", self.field)
            expected = text(f"settings.{entry}", lang=lang, folder=FOLDER)
        facts = {"file": self.file, "line": self.line, "field": self.field, "reason": self.reason}
        return text(f"settings.{self.code}", lang=lang, folder=FOLDER, expected=expected, **facts)


def read(
    files: Sequence[Path], before: Settings = _SHIPPED
) -> tuple[Settings, list[Complaint], Places]:
    """What the files say together, the later before the earlier; what is wrong in them; where what
    is heeded stands.

    A file that is not there says nothing. Nothing is raised.

    Args:
        files: of settings.
        before: what holds in the place of what cannot be heeded.
    """
    complaints: list[Complaint] = []
    places: dict[str, tuple[str, int]] = {}
    together: dict[str, dict[str, Any]] = {}
    known = before.model_dump(by_alias=True, exclude_unset=True)
    for file in files:
        earlier = len(complaints)
        said = _sound(file, complaints, places)
        for section, values in (known if said is None else said).items():
            together.setdefault(section, {}).update(values)
        for complaint in complaints[earlier:]:
            section, _, name = complaint.field.partition(".")
            if name in known.get(section, ()):
                together.setdefault(section, {})[name] = known[section][name]
    return Settings.model_validate(together), complaints, places


def as_text(raw: bytes) -> str:
    """What an editor has saved, which may have put a mark before: UTF-8, or UTF-16 with one.

    Raises:
        UnicodeDecodeError: it is neither.
    """
    marked = raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return raw.decode("utf-16" if marked else "utf-8-sig")


def _sound(
    file: Path, complaints: list[Complaint], places: dict[str, tuple[str, int]]
) -> dict[str, dict[str, Any]] | None:
    """What of a file can be heeded; None: it cannot be read."""
    try:
        lines = _lines(file)
    except FileNotFoundError:
        return {}
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        complaints.append(Complaint("not-utf8", file.name, line))
        return None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        complaints.append(Complaint("unreadable", file.name, reason=reason))
        return None
    try:
        data = tomllib.loads("\n".join(lines))
        ends = _places("\n".join(lines))
        sound = _without_faults(data, file.name, ends, complaints)
    except (ValueError, RecursionError) as error:
        complaints.append(Complaint("no-toml", file.name, _line_of(error, lines)))
        return None
    heeded = {(section, name) for section, values in sound.items() for name in values}
    places |= {".".join(path): (file.name, end) for path, end in ends.items() if path in heeded}
    return sound


def _line_of(error: Exception, lines: Sequence[str]) -> int:
    """Where reading them has failed."""
    if isinstance(error, tomllib.TOMLDecodeError):
        place = re.search(r"line (\d+)", str(error))
        return int(place.group(1)) if place else len(lines)
    # It says no line: the first with which they fail so, as all longer beginnings do.
    before = bisect_left(range(1, len(lines)), True, key=lambda n: _is_beyond(lines[:n]))
    return before + 1


def _is_beyond(lines: Sequence[str]) -> bool:
    """Whether they hold what Python does not read, as a number of 5,000 digits."""
    try:
        tomllib.loads("\n".join(lines))
    except tomllib.TOMLDecodeError:  # in the middle of a value
        return False
    except (ValueError, RecursionError):
        return True
    return False


def _lines(file: Path) -> list[str]:
    with file.open("rb") as opened:
        raw = opened.read(_LARGEST + 1)
    if len(raw) > _LARGEST:
        raise ValueError(f"> {_LARGEST >> 10} KiB")
    # Editors end lines as they like.
    return as_text(raw).splitlines()


def _without_faults(
    data: dict[str, Any],
    file: str,
    ends: Mapping[tuple[str, ...], int],
    complaints: list[Complaint],
) -> dict[str, dict[str, Any]]:
    for key in _IGNORED:
        data.pop(key, None)
    try:
        Settings.model_validate(data)
    except ValidationError as error:
        kinds: dict[tuple[str, ...], set[str]] = {}
        for fault in error.errors():
            kinds.setdefault(_path(fault), set()).add(fault["type"])
        for path, kind in kinds.items():
            complaints.append(Complaint(_code(path, kind), file, ends.get(path, 0), ".".join(path)))
            del (data if len(path) == 1 else data[path[0]])[path[-1]]
    return data


def _code(path: tuple[str, ...], kind: Set[str]) -> Literal["unknown", "unquoted", "wrong"]:
    if len(path) == 1 or "extra_forbidden" in kind:
        return "unknown"
    return "unquoted" if "string_type" in kind else "wrong"


def _path(fault: ErrorDetails) -> tuple[str, ...]:
    """Section and field, without what is wrong inside."""
    return tuple(str(part) for part in fault["loc"][:2])


def _places(text: str) -> dict[tuple[str, ...], int]:
    """For each section and field the line where it ends: that after which a reader has it."""
    found: dict[tuple[str, ...], int] = {}
    header: tuple[str, ...] = ()
    for line, statement in _statements(text):
        data = tomllib.loads(statement)
        if statement.lstrip().startswith("["):
            header = _keys(data)[:2]
        else:
            for key in reversed(header):
                data = {key: data}
        for section, values in data.items():
            found.setdefault((section,), line)
            for name in values if isinstance(values, dict) else ():
                found.setdefault((section, name), line)
    return found


def _keys(header: Any) -> tuple[str, ...]:
    """Of a header, which holds a table in a table."""
    keys = list[str]()
    while isinstance(header, dict) and header:
        [(key, header)] = header.items()
        keys.append(key)
    return tuple(keys)


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """Of TOML: each header, and each field with its value, and the line where it ends."""
    line, depth, start = 1, 0, 0
    for token in _TOKEN.finditer(f"{text}\n"):
        if token[0] == "\n" and not depth:
            if statement := text[start : token.start()].strip():
                yield line, statement
            start = token.end()
        depth += (token[0] in _OPEN) - (token[0] in _CLOSED)
        line += token[0].count("\n")
