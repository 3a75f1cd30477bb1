"""A cache of what a teacher says about the first sequences of a training's order.

    sequences ──▶ teacher ──▶ words of each token ──▶ shard-00000.logits, shard-00001.logits, …

Shards are the steps of resuming: one is there, complete, or is not. Several processes may
work in one folder: each takes the next shard that nobody has. A shard made anew is the same
file, as the teacher reads sequences in the same groups and draws count from the same seeds
(on the same kind of device: on another, rounding decides otherwise for a few draws).

Shapes: B sequences read at once, T tokens, b tokens whose logits are in memory, V vocabulary.
"""

from __future__ import annotations

import errno
import fcntl
import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol

import numpy as np
import torch
from torch import Tensor

from distill.errors import DistillError
from distill.teaching.cache_format import (
    INDEX,
    Identity,
    ShardHeader,
    Words,
    counted,
    encode,
    preamble,
    preamble_size,
    tokens_crc,
)
from distill.teaching.difference import difference
from distill.teaching.reading import Shard
from distill.teaching.sampling import draw, likeliest, uniforms
from distill.teaching.targets import Dense
from edge.progress import Progress
from edge.workshop import is_at

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["DenseTeacher", "Plan", "Sequences", "write_cache"]

_LOGITS = 1 << 24
"""Of how many the values are in memory together, about three times over."""
_TOKENS = 1 << 20
"""Of a shard, which is some 12 MB then: 100,000,000,000 tokens are 100,000 files."""
_TOGETHER = 4096
"""Tokens that the teacher is given at once."""


class Sequences(Protocol):
    """The order in which training reads."""

    identity: str
    """Of another order or another text another one."""
    length: int
    """T."""

    def __getitem__(self, index: int) -> NDArray[np.int32]:
        """Tokens [T + 1] of a sequence."""
        ...


class DenseTeacher(Protocol):
    """A teacher that gives all of its distribution."""

    def targets(self, index: int, ids: Tensor) -> Dense:
        """As `Teacher`."""
        ...


@dataclass(frozen=True, slots=True)
class Plan:
    """How a cache is cut."""

    identity: Identity
    sequences: int
    """N."""
    per_shard: int
    """Sequences of a shard; the last may have fewer."""

    @classmethod
    def of(cls, identity: Identity, sequences: int, per_shard: int | None = None) -> Plan:
        """Shards of so many sequences; None: about a million tokens."""
        return cls(identity, sequences, per_shard or max(1, _TOKENS // identity.length))

    @property
    def shards(self) -> int:
        """How many."""
        return -(-self.sequences // self.per_shard)

    def header(self, shard: int) -> ShardHeader:
        """Of one shard."""
        first = shard * self.per_shard
        count = min(self.per_shard, self.sequences - first)
        return ShardHeader(identity=self.identity, first=first, count=count)

    @staticmethod
    def name(shard: int) -> str:
        """Its file."""
        return f"shard-{shard:05d}.logits"


class _StoppedError(Exception):
    """Nobody waits any more."""


def write_cache(
    sequences: Sequences,
    plan: Plan,
    teacher: DenseTeacher,
    folder: Path,
    *,
    only: Iterable[int] | None = None,
    device: torch.device | None = None,
    progress: Progress | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> bool:
    """Make all shards that are not in `folder` yet.

    Args:
        sequences: what the teacher reads.
        plan: what is made.
        teacher: who says what.
        folder: holds this cache alone; made if need be.
        only: these shards alone.
        device: where words are drawn; None: where torch puts tensors by itself.
        progress: called with tokens done and tokens in all.
        stopped: asked every few sequences.

    Returns:
        Whether all shards are there; not, if it was stopped or others are at work on some.

    Raises:
        DistillError: another cache is in the folder; a shard is damaged; the teacher computes
            no numbers; the disk is full or takes nothing. Shards that are complete are kept.
    """
    shards = range(plan.shards) if only is None else list(only)
    tell = _Tell(plan, shards, progress)
    with _disk(folder):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            for shard in shards:
                header, path = plan.header(shard), folder / plan.name(shard)
                if path.exists():
                    _check(path, header)
                else:
                    with _mine(path) as file:
                        if file is None:
                            continue
                        _write(file, header, sequences, teacher, device, tell.within(stopped))
                tell.finished(header)
        except _StoppedError:
            return False
        return all((folder / plan.name(shard)).exists() for shard in shards)


class _Tell:
    """Tokens done, of those that there are."""

    def __init__(self, plan: Plan, shards: Iterable[int], progress: Progress | None) -> None:
        self._done = 0
        self._length = plan.identity.length
        self._total = sum(plan.header(shard).count for shard in shards) * self._length
        self._progress = progress or (lambda *_: None)

    def within(self, stopped: Callable[[], bool]) -> Callable[[int], None]:
        """Called with the sequences of a shard that are done."""

        def tell(sequences: int) -> None:
            self._progress(self._done + sequences * self._length, self._total)
            if stopped():
                raise _StoppedError

        return tell

    def finished(self, header: ShardHeader) -> None:
        """A shard is there."""
        self._done += header.count * self._length
        self._progress(self._done, self._total)


def _check(path: Path, header: ShardHeader) -> None:
    """Whether what is there is what would be made."""
    known = Shard.open(path).header
    if known != header:
        told = difference(known.identity, header.identity)
        raise DistillError("cache.other", path=str(path.parent), difference=told)


@contextmanager
def _disk(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        code = "cache.full" if error.errno == errno.ENOSPC else "cache.unwritable"
        raise DistillError(code, path=str(folder), reason=error.strerror or str(error)) from error


@contextmanager
def _mine(path: Path) -> Iterator[BinaryIO | None]:
    """A file that becomes `path` at the end; None if another process has it, or has done it."""
    draft = path.with_suffix(".part")
    with draft.open("ab") as locked:
        try:
            fcntl.flock(locked, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
            return
        # Between the look for `path` and the lock, another may have finished, or given up.
        ours = is_at(draft, locked.fileno())
        if path.exists() or not ours:
            if ours:
                draft.unlink()
            yield None
            return
        try:
            with draft.open("r+b") as file:
                file.truncate()
                yield file
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
        except BaseException:
            with suppress(OSError):
                draft.unlink()
            raise


def _write(
    file: BinaryIO,
    header: ShardHeader,
    sequences: Sequences,
    teacher: DenseTeacher,
    device: torch.device | None,
    tell: Callable[[int], None],
) -> None:
    identity = header.identity
    index = np.zeros(header.count, INDEX)
    offset = preamble_size(header)
    file.seek(offset)
    step = max(1, _TOGETHER // identity.length)
    for at in range(0, header.count, step):
        places = range(at, min(at + step, header.count))
        inputs = np.stack([sequences[header.first + n][:-1] for n in places])  # [B, T]
        ids = torch.from_numpy(inputs.astype(np.int64)).to(device)
        dense = teacher.targets(header.first + at, ids)
        for n, row, hidden in zip(places, inputs, dense.hidden, strict=True):
            words = _words(hidden, dense.head, identity, header.first + n)
            block = encode(words, identity)
            index[n] = offset, len(block), zlib.crc32(block), tokens_crc(row)
            offset += file.write(block)
        tell(places.stop)
    file.seek(0)
    file.write(preamble(header, index))


@torch.no_grad()
def _words(hidden: Tensor, head: Tensor, identity: Identity, sequence: int) -> Words:
    """What a teacher says after each token of a sequence, of its hidden states [T, U]."""
    n, length = identity.words, len(hidden)
    step = max(1, _LOGITS // len(head))
    blocks = [slice(at, at + step) for at in range(0, length, step)]
    if identity.drawn:
        stratified = identity.method == "stratified"
        numbers = torch.from_numpy(
            uniforms(identity.seed, sequence, length, n, stratified=stratified)
        ).to(hidden.device)
        drawn = [draw(_logits(hidden[some], head), numbers[some]) for some in blocks]
        return counted(torch.cat(drawn).cpu().numpy())
    top = [likeliest(_logits(hidden[some], head), n) for some in blocks]
    ids, shares = (torch.cat(each).cpu() for each in zip(*top, strict=True))
    return Words(
        ids.flatten().numpy(),
        shares.flatten().numpy().astype(np.float16),
        np.full(length, n, np.int64),
    )


def _logits(hidden: Tensor, head: Tensor) -> Tensor:
    logits = hidden.to(head.dtype) @ head.T
    # One word that is no number makes this maximum none.
    if not torch.isfinite(logits.amax()):
        raise DistillError("cache.not-finite")
    return logits
