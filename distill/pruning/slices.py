"""From the tensors of the teacher to those of the student, some rows at a time.

The student computes what the teacher computes with everything else masked: channels of the
residual stream, of the FFN and heads that are gone are zero, layers that are gone pass by, and
RMSNorm divides by the root mean square of the channels that are kept. Two things are more than
a slice:

**The weight of a norm** is multiplied by one number,

    s = sqrt( mean over kept channels of E[x²] / mean over all channels of E[x²] ),

x the residual stream in front of it as it was measured. The best channels have more than their
share of the energy; a root mean square over them alone would be larger than the one that the
weights behind the norm were trained with, and all that follows would be given too little.

**A student that ties** what the teacher does not gets one matrix M for embedding E and output
matrix H (both [V, w], kept channels):

    M = (E + a · H) / (1 + max(ρ, 0)),    a = |E| / |H|,    ρ = ⟨E, H⟩ / (|E| · |H|),

the sum that, where E and H are not opposed, has the whole of E in the direction of E and the
whole of a · H in that of H; where both are the same, M is E. The last norm's weight is divided
by a, so that logits have their size.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from distill.pruning.choice import Kept
from distill.pruning.scores import Importance
from edge.checkpoint import Checkpoint
from edge.errors import CheckpointError
from edge.llama_config import LlamaConfig
from pretrain.identity import read_rows
from quantize.checkpoint.floats import NotFiniteError, convert
from quantize.checkpoint.llama_tensors import tensors

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Slice", "Tying", "norm_scales", "slices", "tying"]

_EMBEDDING, _HEAD = "model.embed_tokens.weight", "lm_head.weight"
_BLOCK = 16 << 20
"""Bytes of a tensor that are in memory at once, unless one row is more."""


@dataclass(frozen=True, slots=True)
class Tying:
    """How one matrix is made of two: M = share · (E + ratio · H)."""

    ratio: float
    """a"""
    share: float
    """1 / (1 + max(ρ, 0))"""


@dataclass(frozen=True)
class Slice:
    """One tensor of the student."""

    checkpoint: Checkpoint
    name: str
    """Of the student."""
    source: str
    """Of the teacher."""
    shape: tuple[int, ...]
    rows: NDArray[np.int64] | None
    """Which are kept, rising; None: all."""
    columns: NDArray[np.int64] | None
    scale: float = 1.0
    tying: Tying | None = None
    """It is made of this and the output matrix."""

    @property
    def kind(self) -> str:
        """`F32`, `F16` or `BF16`: as in the teacher."""
        return self.checkpoint.tensors[self.source].dtype

    def blocks(self) -> Iterator[NDArray[Any]]:
        """Its numbers in order, in the type of the file.

        Raises:
            CheckpointError: one of them is not finite; the file cannot be read.
        """
        heads = _rows(self.checkpoint, _HEAD, None, self.columns) if self.tying else None
        for block in _rows(self.checkpoint, self.source, self.rows, self.columns):
            made = block
            if self.tying and heads is not None:
                both = block.astype(np.float32) + self.tying.ratio * next(heads).astype(np.float32)
                made = self.tying.share * both
            elif self.scale != 1:
                made = self.scale * block.astype(np.float64)
            yield from self._finite(made)

    def _finite(self, block: NDArray[Any]) -> Iterator[NDArray[Any]]:
        try:
            yield from convert(block, self.kind)
        except NotFiniteError as error:
            code = "checkpoint.not-finite" if error.source else "checkpoint.overflow"
            path = str(self.checkpoint.tensors[self.source].file)
            raise CheckpointError(code, path=path, tensor=self.source, kind=self.kind) from None


def slices(
    checkpoint: Checkpoint,
    student: LlamaConfig,
    kept: Kept,
    scales: NDArray[np.float64],
    tied: Tying | None,
) -> list[Slice]:
    """All tensors of the student.

    Args:
        checkpoint: the teacher, complete.
        student: the shape.
        kept: what is kept for it.
        scales: by what the weight of each norm is multiplied [2l + 1].
        tied: how embedding and output matrix become one, where they do.
    """
    return [
        _slice(checkpoint, tensor.hf, tensor.shape, kept, scales, tied)
        for tensor in tensors(student)
    ]


def _slice(
    checkpoint: Checkpoint, name: str, shape: tuple[int, ...], kept: Kept,
    scales: NDArray[np.float64], tied: Tying | None,
) -> Slice:  # fmt: skip
    width, d = kept.width, checkpoint.config.head_dim
    if name == _EMBEDDING:
        return Slice(checkpoint, name, name, shape, None, width, tying=tied)
    if name == _HEAD:
        source = _EMBEDDING if checkpoint.config.tie_word_embeddings else _HEAD
        return Slice(checkpoint, name, source, shape, None, width)
    if name == "model.norm.weight":
        scale = float(scales[-1]) / (tied.ratio if tied else 1)
        return Slice(checkpoint, name, name, shape, width, None, scale)
    _, _, number, part = name.split(".", 3)
    n = int(number)
    source = f"model.layers.{kept.layers[n]}.{part}"
    query, key = _dimensions(kept.heads[n], d), _dimensions(kept.groups[n], d)
    ffn = kept.ffn[n]
    match part.removesuffix(".weight"):
        case "input_layernorm":
            return Slice(checkpoint, name, source, shape, width, None, float(scales[2 * n]))
        case "post_attention_layernorm":
            return Slice(checkpoint, name, source, shape, width, None, float(scales[2 * n + 1]))
        case "self_attn.q_proj":
            rows, columns = query, width
        case "self_attn.k_proj" | "self_attn.v_proj":
            rows, columns = key, width
        case "self_attn.o_proj":
            rows, columns = width, query
        case "mlp.gate_proj" | "mlp.up_proj":
            rows, columns = ffn, width
        case "mlp.down_proj":
            rows, columns = width, ffn
        case _:  # a tensor that `tensors` names and this does not
            raise ValueError(f"no rule for {name}")
    return Slice(checkpoint, name, source, shape, rows, columns)


def _dimensions(heads: NDArray[np.int64], d: int) -> NDArray[np.int64]:
    return (heads[:, None] * d + np.arange(d)).reshape(-1)


def norm_scales(importance: Importance, kept: Kept) -> NDArray[np.float64]:
    """By what the weight of each norm that is kept is multiplied [2l + 1]; 1 where all is kept."""
    energy = importance.mean_square[kept.norms]
    if len(kept.width) == energy.shape[1]:
        return np.ones(len(energy))
    all_, some = energy.mean(1), energy[:, kept.width].mean(1)
    scales: NDArray[np.float64] = np.sqrt(
        np.divide(some, all_, out=np.ones_like(all_), where=(all_ > 0) & (some > 0))
    )
    return scales


def tying(checkpoint: Checkpoint, width: NDArray[np.int64]) -> Tying:
    """How the embedding and the output matrix of a teacher become one, on the channels kept."""
    ee = hh = eh = 0.0
    both = (_rows(checkpoint, name, None, width) for name in (_EMBEDDING, _HEAD))
    for e, h in zip(*both, strict=True):
        first, second = e.astype(np.float64).ravel(), h.astype(np.float64).ravel()
        ee, hh, eh = ee + first @ first, hh + second @ second, eh + first @ second
    if not (math.isfinite(ee + hh) and ee > 0 and hh > 0):
        raise CheckpointError(
            "checkpoint.not-finite", path=str(checkpoint.path), tensor=_EMBEDDING, kind="F32"
        )
    rho = eh / math.sqrt(ee * hh)
    return Tying(ratio=math.sqrt(ee / hh), share=1 / (1 + max(rho, 0.0)))


def _rows(
    checkpoint: Checkpoint,
    name: str,
    rows: NDArray[np.int64] | None,
    columns: NDArray[np.int64] | None,
) -> Iterator[NDArray[Any]]:
    """What is kept of a tensor, some rows at a time, the same number for tensors of one shape."""
    place = checkpoint.tensors[name]
    total = place.shape[0]
    # Of two tensors that are read in step, one may be in a wider type.
    step = max(1, _BLOCK // (4 * (place.n_elements // total)))
    for start in range(0, total, step):
        stop = min(start + step, total)
        block = read_rows(place, name, start, stop)
        if rows is not None:
            block = block[rows[(start <= rows) & (rows < stop)] - start]
        yield block if columns is None else block[:, columns]
