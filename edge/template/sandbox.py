"""Jinja's immutable sandbox, narrowed to what chat templates use and metered."""

from __future__ import annotations

import re
from datetime import datetime
from types import BuiltinMethodType
from typing import TYPE_CHECKING, Any

from jinja2 import nodes, pass_context
from jinja2.exceptions import SecurityError, TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.runtime import LoopContext, Macro, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment, safe_range
from jinja2.utils import Namespace

from edge.template.filters import FILTERS, TESTS
from edge.template.meter import STEP, Meter
from edge.template.values import METHODS, binary

if TYPE_CHECKING:
    from jinja2.parser import Parser
    from jinja2.runtime import Context

__all__ = ["RefusedError", "Sandbox"]

_LOOP_ATTRIBUTES = frozenset(
    {"index", "index0", "revindex", "revindex0", "first", "last", "length", "depth", "depth0",
     "previtem", "nextitem"}
)  # fmt: skip
# No digits after the percent sign: glibc reads them as a width, which asks for memory.
_STRFTIME = re.compile(r"(?:[^%]|%-?[A-Za-z%])*")
_MAX_STRFTIME = 128


class RefusedError(TemplateError):
    """The template itself refuses the messages, by `raise_exception`."""


class _Generation(Extension):
    """`{% generation %}`: marks an answer for training; rendering takes no notice of it."""

    tags = {"generation"}  # noqa: RUF012 - jinja2 declares it so

    def parse(self, parser: Parser) -> nodes.Node:
        """The block's body."""
        lineno = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body, lineno=lineno)


class Sandbox(ImmutableSandboxedEnvironment):
    """One template's environment; set up as `apply_chat_template` of transformers does.

    `meter` and `now` are those of the rendering that is under way, one at a time.
    """

    intercepted_binops = frozenset({"+", "-", "*", "/", "//", "%", "**"})

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[loopcontrols, _Generation],
            # Constants would be computed at compile time, before anything is metered.
            optimized=False,
            finalize=self._finalize,
        )
        self.meter = Meter(0)
        self.now = datetime.min
        self.filters = dict(FILTERS)
        self.tests = dict(TESTS)
        self.globals = {
            "range": safe_range,
            "namespace": Namespace,
            "dict": dict,
            "raise_exception": _refuse,
            "strftime_now": self._strftime,
        }

    # pass_context also keeps the compiler from folding constants of the output.
    @pass_context
    def _finalize(self, _context: Context, value: Any) -> Any:
        """What `{{ value }}` writes."""
        self.meter.weigh(value, opaque=False)
        return value

    def _strftime(self, form: str) -> str:
        if len(form) > _MAX_STRFTIME or not _STRFTIME.fullmatch(form):
            raise ValueError(f"strftime_now({form[:32]!r})")
        return self.now.strftime(form)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Whether a template may read `obj.attr`: of each type, what is listed and no more."""
        if isinstance(obj, LoopContext):
            return attr in _LOOP_ATTRIBUTES
        if isinstance(obj, Namespace):
            return super().is_safe_attribute(obj, attr, value)
        return attr in METHODS.get(type(obj), ())

    def wrap_str_format(self, value: Any) -> None:
        """`str.format` goes the way of the other methods, through `call`."""
        del value

    def getitem(self, obj: Any, argument: Any) -> Any:
        """`obj[argument]`; the argument is hashed."""
        if not isinstance(argument, (str, int)):
            self.meter.weigh(argument)
        return super().getitem(obj, argument)

    # Positional-only, as the template chooses the names of keyword arguments.
    def call(self, context: Context, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Call a macro, a listed function, or a listed method by its bounded version."""
        self.meter.spend(STEP * (1 + len(args) + len(kwargs)))
        if isinstance(obj, (Macro, Undefined)):
            return super().call(context, obj, *args, **kwargs)
        if isinstance(obj, BuiltinMethodType):
            method = METHODS.get(type(obj.__self__), {}).get(obj.__name__)
            if method is not None:
                for hidden in ("_loop_vars", "_block_vars"):
                    kwargs.pop(hidden, None)
                return method(self.meter, obj.__self__, *args, **kwargs)
        elif self._is_function(obj):
            self.meter.weigh(args)
            return super().call(context, obj, *args, **kwargs)
        raise SecurityError(f"a {type(obj).__name__} cannot be called")

    def _is_function(self, obj: Any) -> bool:
        return obj == self._strftime or any(obj is function for function in _FUNCTIONS)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """`left operator right`, bounded."""
        del context
        return binary(self.meter, operator, left, right)


def _refuse(message: Any = "") -> None:
    raise RefusedError(message if isinstance(message, str) else "")


_FUNCTIONS = (safe_range, Namespace, dict, _refuse)
