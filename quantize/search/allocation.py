"""The type of each weight matrix that costs least within a budget of bytes.

A multiple-choice knapsack: one type for each matrix, the sum of their costs least, the sum
of their sizes within the budget; solved as an integer program by HiGHS.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array

from quantize.errors import QuantizeError
from quantize.ggml import blocks
from quantize.search.notes import Sensitivity

__all__ = ["allocate", "least_size", "require_room", "size_of"]

_GAP = 1e-4
"""Relative distance from the best that is good enough."""


def allocate(
    tensors: Mapping[str, Sensitivity], types: tuple[str, ...], budget: int
) -> dict[str, str]:
    """A type of `types` for each matrix.

    Args:
        tensors: what was measured of each matrix, by name.
        types: to choose from, where a matrix's rows fit.
        budget: bytes that all of them may take.

    Raises:
        QuantizeError: the smallest types take more.
    """
    choices = [(name, kind) for name in tensors for kind in _types(tensors[name], types)]
    places = {name: n for n, name in enumerate(tensors)}
    sizes = np.array([blocks.size(kind, tensors[name].shape) for name, kind in choices])
    costs = np.array([tensors[name].cost(kind) for name, kind in choices])
    require_room([one.shape for one in tensors.values()], types, budget)
    rows = np.array([places[name] for name, _ in choices])
    one_each = coo_array(
        (np.ones(len(choices)), (rows, np.arange(len(choices)))), (len(places), len(choices))
    )
    scale = costs.max() or 1.0  # HiGHS's tolerances are absolute
    found = milp(
        costs / scale,
        integrality=np.ones(len(choices), dtype=np.int8),
        bounds=Bounds(0, 1),
        constraints=[
            LinearConstraint(one_each, 1, 1),
            LinearConstraint(sizes[None, :] / budget, -np.inf, 1),
        ],
        options={"mip_rel_gap": _GAP, "time_limit": 60},
    )
    if found.x is None:
        raise QuantizeError("search.unsolved", reason=found.message)
    chosen = {
        name: kind for (name, kind), taken in zip(choices, found.x, strict=True) if taken > 0.5
    }
    over = size_of(tensors, chosen) - budget
    if over > 0:  # by what the solver tolerates
        return allocate(tensors, types, budget - over)
    return chosen


def size_of(tensors: Mapping[str, Sensitivity], chosen: Mapping[str, str]) -> int:
    """Bytes of all matrices in the types chosen for them."""
    return sum(blocks.size(kind, tensors[name].shape) for name, kind in chosen.items())


def least_size(shapes: Iterable[tuple[int, int]], types: tuple[str, ...]) -> int:
    """Bytes of all matrices [out, in], each in its smallest type."""
    return sum(
        min(blocks.size(kind, shape) for kind in types if blocks.fits(kind, shape[1]))
        for shape in shapes
    )


def require_room(shapes: Iterable[tuple[int, int]], types: tuple[str, ...], budget: int) -> None:
    """See that matrices [out, in] can be made as small as a budget.

    Raises:
        QuantizeError: the smallest types take more.
    """
    least = least_size(shapes, types)
    if least > budget:
        raise QuantizeError("search.too-small", budget=max(budget, 0), least=least)


def _types(tensor: Sensitivity, types: tuple[str, ...]) -> list[str]:
    return [kind for kind in types if kind in tensor.errors]
