"""The fields of a recipe as a person reads them: what each is, and what it is without a word."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, get_args

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from pretrain.recipe import Recipe

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

__all__ = ["listing"]


def listing(kind: type[BaseModel] = Recipe) -> str:
    """TOML of a recipe with every field, its default and its description."""
    return "\n".join(_table(kind, "")).strip()


def _table(kind: type[BaseModel], prefix: str) -> list[str]:
    lines: list[str] = []
    inner: list[str] = []
    for python_name, field in kind.model_fields.items():
        name = field.alias or python_name
        below, many = _model_of(field.annotation)
        if below is None:
            lines += [f"# {line}" for line in (field.description or "").splitlines()]
            lines.append(f"{name} = {_default(field)}")
        else:
            header = f"[[{prefix}{name}]]" if many else f"[{prefix}{name}]"
            doc = [f"# {line}" for line in (field.description or "").splitlines()]
            inner += ["", *doc, header, *_table(below, f"{prefix}{name}.")]
    return lines + inner


def _model_of(annotation: Any) -> tuple[type[BaseModel] | None, bool]:
    """The table that a field is, and whether it is a row of such."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, False
    for each in get_args(annotation):
        if isinstance(each, type) and issubclass(each, BaseModel):
            return each, True
    return None, False


def _default(field: FieldInfo) -> str:
    if field.default is PydanticUndefined:
        return "…"
    if field.default is None:
        return "…  # not set"
    return json.dumps(field.default)
