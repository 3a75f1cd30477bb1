"""Before training: what the floats say, and a good place to begin. One layer after the other.

    pieces ──▶ embedding ──▶ layer 0 ──▶ … ──▶ last norm ──▶ states (the teacher's)
                               │ what goes into each matrix
                               ▼
                             compensation ──▶ weights and scales to begin with

Of a model that is larger than memory, hidden states of all pieces would be the smaller part:
they lie on disk, and a layer that is done is not done again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.linalg import LinAlgError  # type: ignore[attr-defined]

from quantize.errors import QuantizeError
from quantize.grid import GRIDS, Grid
from quantize.healing.compensation import compensate
from quantize.healing.state import write_tensors
from quantize.healing.student import SCALES, load, matrices
from quantize.healing.work import Work, read_array

if TYPE_CHECKING:
    from accelerate import Accelerator
    from numpy.typing import NDArray
    from transformers import LlamaForCausalLM

__all__ = ["prepare"]

_TOGETHER = 4
"""Pieces that are read at once."""


class _StoppedError(Exception):
    """Nobody waits any more."""


@torch.no_grad()
def prepare(
    work: Work,
    source: Path,
    accelerator: Accelerator,
    tell: Callable[[int, int], object],
    stopped: Callable[[], bool],
) -> bool:
    """Leave `work.layer(n)` for each layer, and `work.states`; goes on where it was stopped.

    Args:
        work: has its pieces.
        source: the model folder.
        accelerator: whose device computes a layer; the model itself stays in memory.
        tell: called with pieces done and pieces in all, each counted once for each layer.
        stopped: asked every few pieces.

    Returns:
        Whether it is finished.

    Raises:
        QuantizeError: the model computes no numbers.
    """
    grid = GRIDS[work.recipe().bits]
    model = load(source)
    layers = model.model.layers
    pieces = read_array(work.pieces)
    total = len(layers) * len(pieces)
    through = _Layers(model, pieces.shape[1], accelerator.device)

    def told(done: int) -> None:
        tell(done, total)
        if stopped():
            raise _StoppedError

    first = next((n for n in range(len(layers)) if not work.layer(n).exists()), len(layers))
    if not work.hidden(first).exists():  # a file was removed after all was done
        first = 0
    try:
        if first == 0:
            _map(pieces, work.hidden(0), model.model.embed_tokens)
        for n in range(first, len(layers)):
            before = n * len(pieces)
            given = read_array(work.hidden(n))
            with through.watched(n) as moments:
                _map(given, work.hidden(n + 1), through, told, before)
            start = _start(layers[n], f"model.layers.{n}", moments, grid)
            write_tensors(work.layer(n), start)
    except _StoppedError:
        return False
    _map(read_array(work.hidden(len(layers))), work.states, model.model.norm)
    work.hidden(0).unlink()
    work.hidden(1).unlink()
    return True


def _map(
    given: NDArray[Any],
    target: Path,
    function: Callable[[Tensor], Tensor],
    tell: Callable[[int], object] = lambda _: None,
    before: int = 0,
) -> None:
    """Write what a function makes of all pieces [N, T, …], some of them at a time."""
    draft = target.with_suffix(".part")
    made: np.memmap[Any, np.dtype[np.float32]] | None = None
    for at in range(0, len(given), _TOGETHER):
        out = function(torch.from_numpy(np.array(given[at : at + _TOGETHER]))).numpy()
        if not np.isfinite(out).all():
            raise QuantizeError("heal.not-finite")
        if made is None:
            shape = (len(given), *out.shape[1:])
            made = np.lib.format.open_memmap(draft, "w+", np.float32, shape)
            _reserve(draft)
        made[at : at + _TOGETHER] = out
        tell(before + min(at + _TOGETHER, len(given)))
    assert made is not None  # noqa: S101 - there is a piece
    made.flush()
    draft.replace(target)


def _reserve(file: Path) -> None:
    """Take the disk that a mapped file will fill; later its want would end the process."""
    fd = os.open(file, os.O_RDWR)
    try:
        os.posix_fallocate(fd, 0, os.fstat(fd).st_size)
    finally:
        os.close(fd)


class _Moments:
    """Σ x xᵀ [in, in] of what goes into each matrix of a layer, by the matrix's name."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self._last: Tensor | None = None
        self._product = torch.empty(0)

    def add(self, name: str, inputs: Tensor) -> None:
        """Count inputs [B, T, in]; those of queries, keys and values are the same tensor."""
        if inputs is not self._last:
            rows = inputs.flatten(0, 1)
            self._last, self._product = inputs, rows.T @ rows
        self.sums[name] = self.sums.get(name, 0) + self._product


class _Layers:
    """Computes one layer of a model at a time, on a device that need not hold more.

    Args:
        model: in memory.
        length: tokens of all pieces.
        device: where to compute.
    """

    def __init__(self, model: LlamaForCausalLM, length: int, device: torch.device) -> None:
        self._layers = model.model.layers
        self._device = device
        anything = torch.empty(1, dtype=torch.float32)
        cos, sin = model.model.rotary_emb(anything, torch.arange(length)[None])
        self._rotary = cos.to(device), sin.to(device)
        self._layer: nn.Module = nn.Identity()

    def __call__(self, hidden: Tensor) -> Tensor:
        """Hidden states [B, T, W] behind the layer that is watched."""
        out: Tensor = self._layer(hidden.to(self._device), position_embeddings=self._rotary)
        return out.cpu()

    @contextmanager
    def watched(self, n: int) -> Iterator[_Moments]:
        """Use layer `n`, and take down what goes into its matrices."""
        self._layer = self._layers[n].to(self._device)
        moments = _Moments()

        def hook(name: str) -> Callable[[nn.Module, tuple[Tensor]], None]:
            return lambda _, given: moments.add(name, given[0])

        hooks = [m.register_forward_pre_hook(hook(name)) for name, m in matrices(self._layer)]
        try:
            yield moments
        finally:
            for each in hooks:
                each.remove()
            self._layer.cpu()


def _start(layer: nn.Module, prefix: str, moments: _Moments, grid: Grid) -> dict[str, Tensor]:
    """Weights and scales to begin with, by their names in the model."""
    start = {}
    for name, matrix in matrices(layer):
        sums = moments.sums[name]
        try:
            weight, scales = compensate(matrix.weight.to(sums.device), sums, grid)
        except LinAlgError as error:
            raise QuantizeError("heal.not-finite") from error
        start[f"{prefix}.{name}.weight"] = weight.cpu()
        start[f"{prefix}.{name}.{SCALES}"] = scales.cpu()
    return start
