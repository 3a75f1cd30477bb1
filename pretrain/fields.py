"""The fields of a recipe as a person reads them: what each is, and what it is without a word."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from edge.messages import text
from pretrain.words import FOLDER

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

__all__ = ["fields", "listing"]


def listing(
    kind: type[BaseModel], folders: tuple[Path, ...] = (FOLDER,), subject: str = "fields"
) -> str:
    """TOML of a recipe with every field, its default and what it is, in the user's language.

    It can be pasted: what has no default and need not be given is commented out, and an ellipsis
    stands for what has to be.

    Args:
        kind: of recipe.
        folders: of the texts of the stages whose fields it has.
        subject: the file in them.
    """
    top = "\n".join(_lines(kind, "", partial(_told, folders, subject)))
    return top.strip()


def fields(kind: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Every field by its name in TOML, tables before what is in them."""
    for python_name, field in kind.model_fields.items():
        name = prefix + (field.alias or python_name)
        yield name, field
        below, _ = _model_of(field.annotation)
        if below is not None:
            yield from fields(below, f"{name}.")


def _lines(
    kind: type[BaseModel], prefix: str, tell: Callable[[str], str], off: str = ""
) -> list[str]:
    lines: list[str] = []
    inner: list[str] = []
    for python_name, field in kind.model_fields.items():
        name = field.alias or python_name
        below, many = _model_of(field.annotation)
        told = f"# {tell(prefix + name)}"
        absent = field.default is None or (many and field.default == ())
        mark = "#" if absent else off
        if below is None:
            lines += [told, f"{mark}{name} = {_value(field)}"]
        else:
            header = f"[[{prefix}{name}]]" if many else f"[{prefix}{name}]"
            inner += ["", told, mark + header, *_lines(below, f"{prefix}{name}.", tell, mark)]
    return lines + inner


def _told(folders: tuple[Path, ...], subject: str, name: str) -> str:
    entry = f"{subject}.{name.replace('.', '-')}"
    for folder in folders[:-1]:
        try:
            return text(entry, folder=folder)
        except KeyError:  # a field of another stage
            continue
    return text(entry, folder=folders[-1])


def _model_of(annotation: Any) -> tuple[type[BaseModel] | None, bool]:
    """The table that a field is, and whether it is a row of such."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, False
    for each in get_args(annotation):
        if isinstance(each, type) and issubclass(each, BaseModel):
            return each, True
    return None, False


def _value(field: FieldInfo) -> str:
    if field.default is PydanticUndefined or field.default is None:
        return _example(field.annotation)
    return json.dumps(field.default)


def _example(annotation: Any) -> str:
    if annotation is str:
        return '"…"'
    inner = [_example(each) for each in get_args(annotation)]
    if get_origin(annotation) is tuple:
        return f"[{inner[0]}]"
    return next((each for each in inner if each != "…"), "…")
