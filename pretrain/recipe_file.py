"""Reading a recipe: its TOML file, and the fields that the command line sets."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import from_json

from edge.fault import fault_text
from edge.messages import text as message
from edge.text import one_line
from pretrain.errors import PretrainUsageError
from pretrain.recipe import BaseRecipe

__all__ = ["read_recipe", "wrong"]

R = TypeVar("R", bound=BaseRecipe)
_MOST_BYTES = 1 << 20
"""Of a recipe; who names another file by mistake should not wait for all of it."""
_DEEPEST = 16
"""Names of a field that may be set, with dots between them; recipes have three."""
_LINE = re.compile(r" \(at line (\d+), column \d+\)$")
"""How tomllib ends what it says; of the end of a file it gives no line."""
_END = " (at end of document)"


def read_recipe(kind: type[R], path: Path, settings: Sequence[str] = ()) -> R:
    """The recipe in a TOML file.

    Args:
        kind: of training.
        path: the file. Paths in it are relative to its folder.
        settings: fields to set, as `schedule.steps=200`; the value is TOML, or else text.

    Raises:
        PretrainUsageError: it cannot be read, or something in it is wrong.
    """
    text = _content(path)
    try:
        with _readable(str(path)):
            raw = _as_json(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise _not_toml(error, path, text) from error
    for setting in settings:
        _set(raw, setting)
    _check_letters(raw, "", str(path))
    try:
        # As JSON, in which a list may be a tuple, and neither `true` nor "1" is a number.
        recipe = kind.model_validate_json(json.dumps(raw), strict=True)
    except ValidationError as error:
        raise wrong(error, str(path)) from None
    return recipe.below(path.parent)


def _check_letters(value: Any, name: str, where: str) -> None:
    """No name of a file, and no text, has a NUL, at which the system would raise."""
    if isinstance(value, str) and "\0" in value:
        fault = f"{one_line(name)}: {message('fault.nul')}"
        raise PretrainUsageError("recipe.wrong", where=where, fault=fault)
    if isinstance(value, dict):
        for key, each in value.items():
            _check_letters(each, f"{name}.{key}" if name else key, where)
    elif isinstance(value, list):
        for n, each in enumerate(value):
            _check_letters(each, f"{name}.{n}", where)


def wrong(error: ValidationError, where: str) -> PretrainUsageError:
    """The error that names what is wrong in a recipe, and why.

    Args:
        error: what pydantic has found.
        where: the file, or the table.
    """
    return PretrainUsageError("recipe.wrong", where=where, fault=fault_text(error))


def _content(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
        if len(content) > _MOST_BYTES:
            raise _unreadable(path, f"> {_MOST_BYTES >> 20} MiB")
        return content.decode("utf-8")
    except (OSError, ValueError) as error:
        raise _unreadable(path, getattr(error, "strerror", None) or str(error)) from error


def _unreadable(path: Path, reason: str) -> PretrainUsageError:
    return PretrainUsageError("recipe.unreadable", path=str(path), reason=one_line(reason))


@contextmanager
def _readable(where: str) -> Iterator[None]:
    """What is TOML, and yet beyond what a number or JSON holds, is an error that names where.

    Raises:
        TOMLDecodeError: it is no TOML.
        PretrainUsageError: it is beyond.
    """
    try:
        yield
    except tomllib.TOMLDecodeError:
        raise
    except (ValueError, RecursionError) as error:
        raise PretrainUsageError("recipe.beyond", where=one_line(where)) from error


def _as_json(raw: dict[str, Any]) -> Any:
    """The same in the types that JSON has."""
    return from_json(json.dumps(raw, default=str))


def _not_toml(error: tomllib.TOMLDecodeError, path: Path, text: str) -> PretrainUsageError:
    said = str(error)
    found = _LINE.search(said)
    line = int(found[1]) if found else 1 + text.rstrip().count("\n")
    reason = one_line(_LINE.sub("", said).removesuffix(_END))
    return PretrainUsageError("recipe.not-toml", path=str(path), line=line, reason=reason)


def _set(raw: dict[str, Any], setting: str) -> None:
    name, equals, value = setting.partition("=")
    names = name.strip().split(".")
    if not equals or not all(names) or len(names) > _DEEPEST:
        raise PretrainUsageError("recipe.setting", setting=one_line(setting))
    table: Any = raw
    for each in names[:-1]:
        table = _inner(table, each, setting)
    with _readable(name):
        try:
            read = tomllib.loads(f"value = {value}")
        except tomllib.TOMLDecodeError:
            read = {"value": value}
        read = _as_json(read)
    if len(read) > 1:  # a line break, and another field behind it
        raise PretrainUsageError("recipe.setting", setting=one_line(setting))
    if not isinstance(table, dict):
        raise PretrainUsageError("recipe.setting", setting=one_line(setting))
    table[names[-1]] = read["value"]


def _inner(table: Any, name: str, setting: str) -> Any:
    """The table of that name, or of that number in a list, which counts from 0."""
    if isinstance(table, dict):
        return table.setdefault(name, {})
    if isinstance(table, list) and name in map(str, range(len(table))):
        return table[int(name)]
    raise PretrainUsageError("recipe.setting", setting=one_line(setting))
