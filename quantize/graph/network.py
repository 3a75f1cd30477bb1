"""An ONNX graph in the making: its nodes, and the weights that will stand in its data file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import onnx
from onnx import helper, numpy_helper

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["CONTRIB", "Network", "Part", "Weight"]

CONTRIB = "com.microsoft"
"""The domain of ONNX Runtime's own operators."""


@dataclass(frozen=True, slots=True)
class Part:
    """One array of the data file."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def n_bytes(self) -> int:
        """Its size."""
        n = self.dtype.itemsize
        for length in self.shape:
            n *= length
        return n


@dataclass(frozen=True, slots=True)
class Weight:
    """Arrays that come from the same tensors, and how to make them when they are written."""

    parts: tuple[Part, ...]
    make: Callable[[], tuple[NDArray[Any], ...]]
    alias: Part | None = None
    """The first part once more, under another name and in another shape; it takes no space."""


@dataclass
class Network:
    """Nodes in the order in which they compute."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)
    weights: dict[str, Weight] = field(default_factory=dict)
    """By the name of the first part."""

    def op(
        self,
        kind: str,
        inputs: Sequence[str],
        name: str,
        *,
        outputs: Sequence[str] | None = None,
        domain: str = "",
        **attributes: Any,
    ) -> str:
        """Add a node; returns the name of its first output.

        Args:
            kind: the operator.
            inputs: names; "" for one that is left out.
            name: of the node, a path as exporters write it.
            outputs: names; by default one that follows from `name`.
            domain: `CONTRIB` for ONNX Runtime's own.
            attributes: of the operator.
        """
        made = list(outputs or [f"{name}/output_0"])
        self.nodes.append(
            helper.make_node(kind, inputs, made, name=name, domain=domain, **attributes)
        )
        return made[0]

    def constant(self, name: str, value: NDArray[Any]) -> str:
        """A small array that stands in the graph itself."""
        self.constants.append(numpy_helper.from_array(value, name))
        return name

    def keep(self, weight: Weight) -> str:
        """See that a weight is written, once; returns the name of its first part."""
        name = weight.parts[0].name
        self.weights.setdefault(name, weight)
        return name

    def parts(self) -> Iterator[Part]:
        """All arrays of the data file, in order."""
        for weight in self.weights.values():
            yield from weight.parts
