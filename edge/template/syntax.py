"""What a chat template may be written with, and where its work is counted.

Only the parts of Jinja's language that chat templates use are admitted. Then
the syntax tree is rewritten, so that the compiled template pays for its work as
it goes: each turn of a loop and each call of a macro pays for its body, which
is a fixed number of steps; operations whose cost depends on their operands
become filters that look at these first (`edge.template.filters`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, cast

from jinja2 import nodes
from jinja2.visitor import NodeTransformer

from edge.template.meter import STEP

__all__ = ["CONCAT", "EACH", "SLICE", "SPEND", "WEIGHED", "NotAdmittedError", "admit"]

# Names of filters that no template can spell.
EACH = "each item, paid for"
SPEND = "pay"
WEIGHED = "weighed operand"
CONCAT = "~"
SLICE = "[:]"
_OURS = frozenset({EACH, SPEND, WEIGHED, CONCAT, SLICE})

# Of 63 templates that llama.cpp keeps for its tests (2026-11) the largest has 1,286 nodes
# and the deepest 29 levels.
_MAX_NODES = 10_000
_MAX_DEPTH = 128
_MAX_INT_BITS = 1024

_ADMITTED = frozenset(
    {
        # statements
        nodes.Template, nodes.Output, nodes.For, nodes.If, nodes.Macro, nodes.FilterBlock,
        nodes.With, nodes.Assign, nodes.AssignBlock, nodes.Scope, nodes.Break, nodes.Continue,
        # values
        nodes.Name, nodes.NSRef, nodes.Const, nodes.TemplateData, nodes.Tuple, nodes.List,
        nodes.Dict, nodes.Pair, nodes.Keyword,
        # expressions
        nodes.CondExpr, nodes.Filter, nodes.Test, nodes.Call, nodes.Getitem, nodes.Getattr,
        nodes.Slice, nodes.Concat, nodes.Compare, nodes.Operand, nodes.Mul, nodes.Div,
        nodes.FloorDiv, nodes.Add, nodes.Sub, nodes.Mod, nodes.Pow, nodes.And, nodes.Or,
        nodes.Not, nodes.Neg, nodes.Pos,
    }
)  # fmt: skip


class NotAdmittedError(Exception):
    """The template uses something that no chat template needs; the text says what."""


def admit(tree: nodes.Template) -> None:
    """Check `tree` and rewrite it in place.

    Raises:
        NotAdmittedError: it is too large, too deep, or uses what is not admitted.
    """
    count = 0
    level: list[nodes.Node] = [tree]
    for _ in range(_MAX_DEPTH):
        count += len(level)
        if count > _MAX_NODES:
            raise NotAdmittedError(f"more than {_MAX_NODES} syntax nodes")
        for node in level:
            _check_node(node)
        level = [child for node in level for child in node.iter_child_nodes()]
    if level:
        raise NotAdmittedError(f"nesting deeper than {_MAX_DEPTH} levels")
    _Metering().visit(tree)


def _check_node(node: nodes.Node) -> None:
    kind = type(node)
    if kind not in _ADMITTED:
        raise NotAdmittedError(f"{kind.__name__}, line {node.lineno}")
    if isinstance(node, nodes.For) and node.recursive:
        raise NotAdmittedError(f"recursive loop, line {node.lineno}")
    if isinstance(node, (nodes.Call, nodes.Filter, nodes.Test)) and (
        node.dyn_args or node.dyn_kwargs
    ):
        raise NotAdmittedError(f"unpacked arguments, line {node.lineno}")
    if isinstance(node, nodes.Filter) and node.name in _OURS:
        raise NotAdmittedError(f"filter {node.name}, line {node.lineno}")
    if isinstance(node, nodes.Const) and isinstance(node.value, (int, float)):
        _check_number(node)


def _check_number(node: nodes.Const) -> None:
    value = node.value
    # Jinja compiles an infinite number to the name `inf`, which does not exist.
    if value == math.inf or int(value).bit_length() > _MAX_INT_BITS:
        raise NotAdmittedError(f"a number too large, line {node.lineno}")


def _cost(block: Iterable[nodes.Node]) -> int:
    """What running a block once takes, without the blocks in it, which pay for themselves."""
    cost = 0
    todo = list(block)
    while todo:
        node = todo.pop()
        cost += STEP + (len(node.data) if isinstance(node, nodes.TemplateData) else 0)
        inner = ("body", "else_") if isinstance(node, (nodes.For, nodes.If, nodes.Macro)) else ()
        todo.extend(node.iter_child_nodes(exclude=inner))
    return cost


def _pay(block: list[nodes.Node]) -> None:
    """Let a block pay when it is entered."""
    if block:
        pay = _filter(SPEND, nodes.Const(_cost(block)))
        block.insert(0, nodes.ExprStmt(pay, lineno=block[0].lineno))


class _Metering(NodeTransformer):
    """Puts in what pays; the names of its methods are those that jinja2 looks for."""

    def visit_Template(self, node: nodes.Template) -> nodes.Template:  # noqa: N802
        _pay(node.body)
        self.generic_visit(node)
        return node

    def visit_If(self, node: nodes.If) -> nodes.If:  # noqa: N802
        _pay(node.body)
        _pay(node.else_)
        self.generic_visit(node)
        return node

    def visit_For(self, node: nodes.For) -> nodes.For:  # noqa: N802
        # Each item pays, also one that the loop's own `if` passes over.
        cost = _cost([node.target, *node.body, *([node.test] if node.test else [])])
        _pay(node.else_)
        self.generic_visit(node)
        node.iter = _filter(EACH, node.iter, nodes.Const(cost))
        return node

    def visit_Macro(self, node: nodes.Macro) -> nodes.Macro:  # noqa: N802
        _pay(node.body)
        self.generic_visit(node)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Expr:  # noqa: N802
        self.generic_visit(node)
        return _filter(CONCAT, nodes.Tuple(node.nodes, "load", lineno=node.lineno))

    def visit_Compare(self, node: nodes.Compare) -> nodes.Expr:  # noqa: N802
        self.generic_visit(node)
        node.expr = _weighed(node.expr)
        for operand in node.ops:
            operand.expr = _weighed(operand.expr)
        return node

    def visit_Pair(self, node: nodes.Pair) -> nodes.Pair:  # noqa: N802
        self.generic_visit(node)
        node.key = _weighed(node.key)  # it will be hashed
        return node

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Expr:  # noqa: N802
        self.generic_visit(node)
        if not isinstance(node.arg, nodes.Slice):
            return node
        bounds = (node.arg.start, node.arg.stop, node.arg.step)
        return _filter(SLICE, node.node, *(bound or nodes.Const(None) for bound in bounds))


def _filter(name: str, value: nodes.Node, *args: nodes.Expr) -> nodes.Filter:
    # jinja2 declares the iterable of a loop as any node; it is an expression.
    return nodes.Filter(
        cast("nodes.Expr", value), name, list(args), [], None, None, lineno=value.lineno
    )


def _weighed(value: nodes.Expr) -> nodes.Expr:
    cheap: tuple[Any, ...] = (nodes.Const, nodes.Test, nodes.Compare, nodes.Not)
    return value if isinstance(value, cheap) else _filter(WEIGHED, value)
