"""Filters and tests of chat templates, each bounded before it runs.

They are those that real templates use (counted over the 63 that llama.cpp keeps
for its tests, 2026-11). Jinja's own run once their cost is paid; where a few
characters can ask for gigabytes (`replace`, `join`, `indent`) the size of the
result is computed first.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from jinja2 import pass_context, pass_environment
from jinja2.filters import FILTERS as JINJA_FILTERS
from jinja2.tests import TESTS as JINJA_TESTS

from edge.template import syntax
from edge.template.meter import STEP, Meter
from edge.template.values import Operation, joined, replaced, search_cost

if TYPE_CHECKING:
    from jinja2.runtime import Context

__all__ = ["FILTERS", "TESTS"]

_MAX_INDENT = 64

_FILTER: dict[str, Any] = dict(JINJA_FILTERS)
_TEST: dict[str, Any] = dict(JINJA_TESTS)  # some have the name of a filter


def _meter(context: Context) -> Meter:
    meter: Meter = context.environment.meter  # type: ignore[attr-defined] # Sandbox has it
    return meter


def _deep(original: Operation, passes: str = "") -> Operation:
    """Jinja's filter or test, after all its operands were weighed; so is its result."""

    @pass_context
    def run(context: Context, value: Any, *args: Any, **options: Any) -> Any:
        meter = _meter(context)
        meter.weigh(value)
        meter.weigh((args, options))
        first = (context.environment,) if passes == "environment" else ()
        result = original(*first, value, *args, **options)
        meter.weigh(result)
        return result

    return run


def _ordering(original: Operation, passes: str = "") -> Operation:
    """As `_deep`, for what compares items with each other, each about log n times."""
    weighed = _deep(original, passes)

    @pass_context
    def run(context: Context, value: Any, *args: Any, **options: Any) -> Any:
        items = _items(context, value)
        for _ in range(len(items).bit_length()):
            _meter(context).weigh(items)
        if isinstance(value, Mapping):
            items = value
        return weighed(context, items, *args, **options)

    return run


def _listing(original: Operation, passes: str = "") -> Operation:
    """Jinja's filter over a sequence, as a list at once; items are handed on, not copied."""

    @pass_context
    def run(context: Context, value: Any, *args: Any, **options: Any) -> Any:
        first: tuple[Any, ...] = (context,) if passes == "context" else ()
        # Jinja's own take None for an empty sequence.
        items = _items(context, [] if value is None else value)
        result = original(*first, items, *args, **options)
        return result if isinstance(result, str) else _items(context, result)

    return run


def _items(context: Context, value: Any) -> Any:
    """`value` as a list, paid for item by item; text and mappings stay as they are."""
    meter = _meter(context)
    if isinstance(value, str):
        meter.spend(STEP * len(value))
        return value
    if isinstance(value, Mapping):
        meter.spend(STEP * len(value))
        return value
    items = []
    for item in value:
        meter.spend(STEP)
        items.append(item)
    return items


def _by_pieces(original: Operation) -> Operation:
    """A filter that cuts a text up; each piece is an object, with a letter and a gap at least."""
    weighed = _deep(original)

    @pass_context
    def run(context: Context, value: Any, *args: Any, **options: Any) -> Any:
        if isinstance(value, str):
            _meter(context).spend(STEP // 2 * len(value))
        return weighed(context, value, *args, **options)

    return run


_MAP = _listing(_FILTER["map"], "context")
_INDENT = _by_pieces(_FILTER["indent"])


# -- what the rewritten syntax tree calls ----------------------------------------------


@pass_environment
def _each(environment: Any, value: Any, cost: int) -> Iterator[Any]:
    for item in value:
        environment.meter.spend(cost)
        yield item


@pass_environment
def _spend(environment: Any, cost: int) -> None:
    environment.meter.spend(cost)


@pass_environment
def _weighed(environment: Any, value: Any) -> Any:
    environment.meter.weigh(value)
    return value


@pass_environment
def _concat(environment: Any, values: tuple[Any, ...]) -> str:
    environment.meter.weigh(values, opaque=False)
    return "".join(map(str, values))


@pass_environment
def _slice(environment: Any, value: Any, start: Any, stop: Any, step: Any) -> Any:
    cut = slice(start, stop, step)
    if isinstance(value, (str, list, tuple, range)):
        environment.meter.spend(STEP + 8 * len(range(*cut.indices(len(value)))))
    return value[cut]


# -- filters whose result may be far larger than their operands -------------------------


@pass_context
def _replace(context: Context, text: Any, old: Any, new: Any, count: int | None = None) -> str:
    meter = _meter(context)
    meter.weigh((text, old, new), opaque=False)
    return replaced(meter, str(text), str(old), str(new), count)


@pass_context
def _join(context: Context, value: Any, d: Any = "", attribute: Any = None) -> str:
    meter = _meter(context)
    items = list(_items(context, value))
    if attribute is not None:
        items = _MAP(context, items, attribute=attribute)
    meter.weigh((items, d), opaque=False)
    return joined(meter, str(d), [str(item) for item in items])


def _check_indent(indent: int | str) -> int:
    size = indent if isinstance(indent, int) else len(indent)
    if size > _MAX_INDENT:
        raise ValueError(f"indent of more than {_MAX_INDENT} characters")
    return max(size, 0)


@pass_context
def _indent(
    context: Context, text: str, width: int | str = 4, first: bool = False, blank: bool = False
) -> Any:
    _meter(context).spend((text.count("\n") + 1) * _check_indent(width))
    return _INDENT(context, text, width, first=first, blank=blank)


@pass_context
def _list(context: Context, value: Any) -> list[Any]:
    return list(_items(context, value))


@pass_context
def _trim(context: Context, value: Any, chars: str | None = None) -> str:
    _meter(context).weigh(value, opaque=False)
    text = str(value)
    _meter(context).spend(search_cost(text, chars or ""))
    return text.strip(chars)


@pass_context
def _string(context: Context, value: Any) -> str:
    _meter(context).weigh(value, opaque=False)
    return str(value)


@pass_context
def _tojson(
    context: Context,
    value: Any,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """As Hugging Face's: plain JSON, not escaped for HTML, every character as it is."""
    meter = _meter(context)
    meter.weigh((value, indent, separators))
    if indent is not None:
        _check_indent(indent)
    encoder = json.JSONEncoder(
        ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )
    chunks = []
    for chunk in encoder.iterencode(value):
        meter.spend(len(chunk))
        chunks.append(chunk)
    return "".join(chunks)


def _numeric(original: Operation) -> Operation:
    """A test that divides; on a text, Jinja's own would be `%`, which formats it."""

    def run(value: Any, *args: Any) -> Any:
        if isinstance(value, str):
            raise TypeError("a text cannot be divided")
        return original(value, *args)

    return run


FILTERS: dict[str, Operation] = {
    syntax.EACH: _each,
    syntax.SPEND: _spend,
    syntax.WEIGHED: _weighed,
    syntax.CONCAT: _concat,
    syntax.SLICE: _slice,
    # these hand on what they are given
    "default": _FILTER["default"],
    "d": _FILTER["d"],
    "length": _FILTER["length"],
    "count": _FILTER["count"],
    "replace": _replace,
    "join": _join,
    "indent": _indent,
    "list": _list,
    "title": _by_pieces(_FILTER["title"]),
    "trim": _trim,
    "string": _string,
    "safe": _string,  # nothing is escaped here, so there is nothing to mark
    "tojson": _tojson,
    **{name: _listing(_FILTER[name]) for name in ("items", "reverse")},
    **{
        name: _listing(_FILTER[name], "context")
        for name in ("map", "select", "reject", "selectattr", "rejectattr")
    },
    **{name: _deep(_FILTER[name]) for name in ("upper", "lower", "capitalize")},
    **{name: _deep(_FILTER[name]) for name in ("int", "float", "abs")},
    **{name: _deep(_FILTER[name], "environment") for name in ("first", "last")},
    **{name: _ordering(_FILTER[name], "environment") for name in ("sort", "unique", "min", "max")},
    "dictsort": _ordering(_FILTER["dictsort"]),
}
"""By name."""

_LOOKS = (
    "defined", "undefined", "none", "boolean", "true", "false", "string", "number", "integer",
    "float", "mapping", "sequence", "iterable", "callable", "sameas",
)  # fmt: skip
_COMPARES = (
    "eq", "==", "equalto", "ne", "!=", "lt", "<", "lessthan", "le", "<=", "gt", ">",
    "greaterthan", "ge", ">=", "in",
)  # fmt: skip

TESTS: dict[str, Operation] = {
    **{name: _TEST[name] for name in _LOOKS},
    **{name: _deep(_TEST[name]) for name in _COMPARES},
    **{name: _numeric(_TEST[name]) for name in ("odd", "even", "divisibleby")},
}
"""By name."""
