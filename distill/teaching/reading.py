"""What a teacher has said, read back."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
from pydantic import ValidationError
from torch import Tensor

from distill.errors import DistillError
from distill.teaching.cache_format import (
    Identity,
    ShardHeader,
    Words,
    decode,
    padded,
    read_preamble,
    tokens_crc,
)
from distill.teaching.targets import Sampled
from edge.text import one_line

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Cached", "Shard"]

_OPEN = 64
"""Shards whose index is in memory."""


@dataclass(frozen=True)
class Shard:
    """A shard whose header and index have been checked."""

    path: Path
    header: ShardHeader
    index: NDArray[Any]
    """For each of its sequences, as `cache_format.INDEX`."""

    @classmethod
    def open(cls, path: Path) -> Self:
        """Read header and index.

        Raises:
            DistillError: it is no shard, or damaged, or cannot be read.
        """
        try:
            with path.open("rb") as file:
                return cls(path, *read_preamble(file.read))
        except (OSError, ValueError) as error:
            raise _damaged(path, error) from error

    def read(self, first: int, tokens: list[NDArray[Any]] | int) -> Iterator[Words]:
        """Words of some sequences, one after the other.

        Args:
            first: the first, counted in the whole cache.
            tokens: of each, which must be those that the teacher read; or how many sequences,
                of which nobody has the tokens.

        Raises:
            DistillError: the shard is damaged; the teacher read other tokens.
        """
        at = first - self.header.first
        count = tokens if isinstance(tokens, int) else len(tokens)
        rows = self.index[at : at + count]
        if not isinstance(tokens, int):
            for n, (row, ids) in enumerate(zip(rows, tokens, strict=True), first):
                if tokens_crc(ids) != row["tokens"]:
                    raise DistillError("cache.other-text", path=str(self.path), sequence=n)
        try:
            with self.path.open("rb") as file:
                for row in rows:
                    file.seek(int(row["offset"]))
                    block = file.read(int(row["size"]))
                    if zlib.crc32(block) != row["crc"]:
                        raise ValueError("CRC-32")  # noqa: TRY301
                    yield decode(block, self.header.identity)
        except (OSError, ValueError) as error:
            raise _damaged(self.path, error) from error


class Cached:
    """A teacher that has spoken before.

    Args:
        shards: its files, in order.
        identity: what they hold.
        per_shard: sequences of each but the last.
        sequences: how many there are.
    """

    def __init__(
        self, shards: list[Path], identity: Identity, per_shard: int, sequences: int
    ) -> None:
        self.identity = identity
        self._paths = shards
        self._per_shard = per_shard
        self._sequences = sequences
        self._open: dict[int, Shard] = {}

    def __len__(self) -> int:
        """Sequences."""
        return self._sequences

    def targets(self, index: int, ids: Tensor) -> Sampled:
        """Words and weights after each token of ids [B, T], on their device.

        Raises:
            DistillError: a shard is damaged; the teacher read other tokens, or fewer sequences.
        """
        made = self.read(index, list(ids.cpu().numpy()))
        words, weights = padded(made, self.identity)
        return Sampled(
            torch.from_numpy(words).to(ids.device), torch.from_numpy(weights).to(ids.device)
        )

    def read(self, index: int, tokens: list[NDArray[Any]] | int) -> list[Words]:
        """Words of some sequences; `Shard.read` across shards."""
        count = tokens if isinstance(tokens, int) else len(tokens)
        if index + count > self._sequences:
            raise DistillError(
                "cache.too-short", path=str(self._paths[0].parent),
                sequences=self._sequences, wanted=index + count,
            )  # fmt: skip
        made: list[Words] = []
        while len(made) < count:
            at = index + len(made)
            shard = at // self._per_shard
            some = min((shard + 1) * self._per_shard - at, count - len(made))
            wanted = some if isinstance(tokens, int) else tokens[len(made) : len(made) + some]
            made += self._shard(shard).read(at, wanted)
        return made

    def _shard(self, number: int) -> Shard:
        if number not in self._open:
            if len(self._open) >= _OPEN:
                del self._open[next(iter(self._open))]
            shard = Shard.open(self._paths[number])
            first = number * self._per_shard
            count = min(self._per_shard, self._sequences - first)
            wanted = ShardHeader(identity=self.identity, first=first, count=count)
            if shard.header != wanted:
                raise _damaged(shard.path, "header")
            self._open[number] = shard
        return self._open[number]


def _damaged(path: Path, error: object) -> DistillError:
    if isinstance(error, OSError) and error.strerror:
        reason = error.strerror
    elif isinstance(error, ValidationError):
        reason = "header"
    else:
        reason = one_line(error)
    return DistillError("cache.damaged", path=str(path), reason=reason)
