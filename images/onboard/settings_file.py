"""The files in which settings are written, read line by line.

A board has to start, whatever is in them: a value that is wrong is as if it were not there,
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
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ValidationError

from edge.messages import text
from images.onboard.settings import Settings
from images.words import FOLDER

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

__all__ = ["Complaint", "Places", "as_text", "read"]

Places = Mapping[str, tuple[str, int]]
"""File and line of fields, as `wlan.country`."""
_LARGEST = 1 << 14
_IGNORED = {"config_version"}
"""Of rpi-preseed: its own number."""
_OPEN, _CLOSED = frozenset("[{"), frozenset("]}")
_TOKEN = re.compile(
    r"""#[^\n]*|"{3}(?:\\.|[^\\])*?"{3,5}|'{3}.*?'{3,5}|"(?:\\.|[^"\\])*"|'[^']*'|[][{}\n]""",
    re.DOTALL,
)
"""What of TOML says whether a value goes on in the next line: comments and texts hide the rest."""
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
