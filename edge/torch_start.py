"""What a process does before it computes with torch, which is given: nothing here imports it.

torch's wheels for x86 hold oneMKL 2024.2, which looks for the code of its vector functions (VML)
when the first of them is called. Where several threads make that call together, one of them may
compute its part with the code of least precision: of 3,000 new processes, in 195 the cosines of
half of the positions were wrong in the fourth digit, and with them all that a model said of these
positions. Once one thread has called them, it is as exact as ever
(https://github.com/pytorch/pytorch/issues/188792).
"""

from __future__ import annotations

from typing import Any

__all__ = ["start"]

_VECTOR_FUNCTIONS = (
    "acos", "asin", "atan", "cos", "cosh", "erf", "erfc", "erfinv", "exp", "expm1", "lgamma",
    "log", "log10", "log1p", "log2", "sin", "sinh", "sqrt", "tan", "tanh",
)  # fmt: skip


def start(torch: Any, threads: int = 0) -> None:
    """Choose the threads, and have one of them make the first calls.

    Args:
        torch: the module.
        threads: to compute with; 0: as torch chooses.
    """
    if threads:
        torch.set_num_threads(threads)
    for kind in (torch.float32, torch.float64):
        one = torch.ones(1, dtype=kind)
        for name in _VECTOR_FUNCTIONS:
            getattr(torch, name)(one)
