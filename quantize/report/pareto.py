"""Which of several things none of the others beats."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["front"]


def front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of the points that no other is below in one coordinate and not above in the other.

    In order of the first coordinate. Of equal points the first counts.
    """
    found: list[int] = []
    for index in sorted(range(len(points)), key=lambda n: points[n]):
        if not found or points[index][1] < points[found[-1]][1]:
            found.append(index)
    return found
