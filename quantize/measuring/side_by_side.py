"""Which models are read side by side: as many as memory holds beside the reference."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edge.device import detect
from edge.engine import LoadOptions
from edge.header import read_model
from edge.memory import MemoryEstimate, estimate
from edge.plan import budget
from quantize.errors import QuantizeError
from quantize.measuring.candidates import CHUNK

__all__ = ["groups"]

# Logits are wanted of every token, as if each were of a sequence of its own.
_OPTIONS = LoadOptions(
    n_ctx=CHUNK, n_seq=CHUNK, n_batch=CHUNK, threads=1, threads_batch=1, repack=True
)


def groups(reference: Path, candidates: Sequence[Path]) -> list[list[Path]]:
    """Candidates in their order, so many together as fit; one at least.

    Args:
        reference: the model file that is read with each group.
        candidates: the others.

    Raises:
        ModelError: a model is damaged or of an unknown kind.
        QuantizeError: the reference and one candidate alone would be killed.
    """
    device = detect()
    available = budget(device)

    def needed(path: Path) -> MemoryEstimate:
        return estimate(read_model(path), _OPTIONS, device.cpu.flags)

    judge = needed(reference)
    found: list[list[Path]] = []
    left = 0
    for path in candidates:
        more = needed(path)
        # Weights that are mapped can be dropped and read again; the rest cannot.
        kept = judge.total - judge.weights + more.total - more.weights
        if kept > available:
            raise QuantizeError(
                "compare.too-large",
                path=str(path),
                needed=kept // 10**6,
                available=available // 10**6,
            )
        if not found or more.total > left:
            found.append([])
            left = available - judge.total
        found[-1].append(path)
        left -= more.total
    return found
