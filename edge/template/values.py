"""Methods and operators of the values in chat templates, each bounded before it runs.

Python's own runs once its cost is paid. Where a few characters can ask for
gigabytes (`replace`, `join`, `*`) the size of the result is computed first.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from string import Formatter
from typing import Any

from jinja2 import Undefined

from edge.template.meter import STEP, Meter

__all__ = ["METHODS", "Operation", "binary", "joined", "replaced", "search_cost"]

Operation = Callable[..., Any]

_MAX_INT_BITS = 4096


def replaced(meter: Meter, text: str, old: str, new: str, count: int | None = None) -> str:
    """`text.replace(old, new, count)`."""
    most = -1 if count is None else count
    meter.spend(search_cost(text, old))
    found = text.count(old)
    if most >= 0:
        found = min(found, most)
    meter.spend(len(text) + found * len(new))
    return text.replace(old, new, most)


def joined(meter: Meter, separator: str, texts: list[str]) -> str:
    """`separator.join(texts)`."""
    meter.weigh(texts)
    meter.spend(len(separator) * len(texts))
    return separator.join(texts)


def search_cost(text: str, sought: str) -> int:
    """Searching backwards is naive in CPython: text times sought, at worst."""
    return len(text) + len(text) * min(len(sought), len(text)) // 16


def _plain(name: str) -> Operation:
    """A method of str whose cost is the length of the text and of what it returns."""
    method: Operation = getattr(str, name)

    def run(meter: Meter, text: str, *args: Any) -> Any:
        meter.weigh((text, args))
        result = method(text, *args)
        meter.weigh(result)
        return result

    return run


def _searching(name: str) -> Operation:
    """A method of str that looks for its first argument."""
    run_plain = _plain(name)

    def run(meter: Meter, text: str, *args: Any) -> Any:
        meter.spend(search_cost(text, args[0] if args and isinstance(args[0], str) else ""))
        return run_plain(meter, text, *args)

    return run


def _splitting(name: str) -> Operation:
    """A method of str that returns many; each piece is an object of its own."""
    run_searching = _searching(name)

    def run(meter: Meter, text: str, *args: Any) -> Any:
        by_space = not args or args[0] is None
        pieces = len(text) // 2 if by_space else text.count(args[0])
        meter.spend(STEP * pieces)
        return run_searching(meter, text, *args)

    return run


def _join_method(meter: Meter, separator: str, values: Any) -> str:
    meter.weigh(values)
    if isinstance(values, str):
        meter.spend(STEP * len(values))
    return joined(meter, separator, list(values))


def _format(meter: Meter, text: str, *args: Any, **options: Any) -> str:
    """`"{}".format(x)`, without widths, attributes and indices, which can ask for anything."""
    for _, field, spec, conversion in Formatter().parse(text):
        if spec or conversion or (field and not field.isidentifier() and not field.isdecimal()):
            raise ValueError("format with more than plain {} fields")
        meter.weigh((text, args, options), opaque=False)
    return text.format(*args, **options)


def _by_reference(name: str) -> Operation:
    """A method of dict that looks one thing up, or makes a view."""

    def run(meter: Meter, mapping: dict[Any, Any], *args: Any) -> Any:
        meter.weigh(args[:1])  # the key will be hashed
        return getattr(mapping, name)(*args)

    return run


METHODS: dict[type, dict[str, Operation]] = {
    str: {
        **{
            name: _plain(name)
            for name in (
                "startswith", "endswith", "upper", "lower", "title", "capitalize",
                "removeprefix", "removesuffix", "isdigit", "isspace", "isupper", "islower",
            )
        },
        **{
            name: _searching(name)
            for name in ("strip", "lstrip", "rstrip", "find", "rfind", "count")
        },
        **{name: _splitting(name) for name in ("split", "rsplit")},
        "replace": replaced,
        "join": _join_method,
        "format": _format,
    },
    dict: {name: _by_reference(name) for name in ("get", "items", "keys", "values")},
}  # fmt: skip
"""By type and name: called with a meter, the object and the arguments."""


# -- operators -------------------------------------------------------------------------

_NUMERIC: dict[str, Operation] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "//": operator.floordiv,
    "%": operator.mod,
    "**": operator.pow,
}


def binary(meter: Meter, symbol: str, left: Any, right: Any) -> Any:
    """`left symbol right`, for numbers, and `+` and `*` for texts and lists.

    Raises:
        TooMuchWorkError: the result would be too large.
        TypeError: for other operands, as Python does; also for `%` on a text, whose
            widths can ask for anything.
    """
    run = _NUMERIC[symbol]
    if isinstance(left, Undefined) or isinstance(right, Undefined):
        return run(left, right)  # says which name is not defined
    if symbol == "+" and isinstance(left, (str, list, tuple)) and type(left) is type(right):
        meter.spend(_bytes(left) + _bytes(right))
        return run(left, right)
    if symbol == "*":
        for text, times in ((left, right), (right, left)):
            if isinstance(text, (str, list, tuple)) and isinstance(times, int):
                meter.spend(_bytes(text) * max(times, 0))
                return run(left, right)
    if not isinstance(left, (int, float)) or not isinstance(right, (int, float)):
        raise TypeError(f"{type(left).__name__} {symbol} {type(right).__name__}")
    if _bits(symbol, left, right) > _MAX_INT_BITS:
        raise OverflowError(f"a number of more than {_MAX_INT_BITS} bits")
    return run(left, right)


def _bytes(value: Any) -> int:
    return len(value) * (1 if isinstance(value, str) else 8)


def _bits(symbol: str, left: float, right: float) -> int:
    """About how many bits the result has, where both are integers."""
    if not isinstance(left, int) or not isinstance(right, int):
        return 0
    if symbol == "**":
        return left.bit_length() * abs(right)
    return left.bit_length() + right.bit_length()
