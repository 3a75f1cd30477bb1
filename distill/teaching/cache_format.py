"""A shard of a cache of logits: words and weights for each token of some sequences.

    magic, version, length of the JSON, CRC-32 of all up to the first block     <8sIII
    JSON                                              `ShardHeader`
    index: for each sequence                          offset u64, size u32, CRC-32 of the
                                                      block u32, CRC-32 of its tokens u32
    blocks, one for each sequence

All numbers are little-endian. A block is a count of words M (u32), then columns of M bytes,
each as its compressed size (u32) and a zstd frame:

    weights    of draws: how often − 1; of the likeliest words: a float16, in two columns
    words      steps between ids, which ascend in a token (its first: the id itself); low
               bytes, then the next, as many columns as the vocabulary wants

Where a token ends needs no column: its counts add up to n, or it has k words. Bytes of one
kind stand together because zstd's entropy coder then gives each its own code; bits of ids
that are packed first come out larger, and want a loop to be read.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "INDEX", "MOST_WORDS", "Identity", "Method", "ShardHeader", "Words", "counted", "decode",
    "encode", "padded", "preamble", "preamble_size", "read_preamble", "tokens_crc",
]  # fmt: skip

MAGIC: Final = b"LUCIE-KD"
VERSION: Final = 1
MOST_WORDS: Final = 256
"""For a token: a count − 1 is a byte."""
INDEX: Final = np.dtype([("offset", "<u8"), ("size", "<u4"), ("crc", "<u4"), ("tokens", "<u4")])

_PREAMBLE = struct.Struct("<8sIII")
_SIZE = struct.Struct("<I")
_MOST_JSON = 1 << 16
_CODEC = "zstd"
_LEVEL = 3  # level 19 saves 6 %

Method = Literal["independent", "stratified", "top-k"]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Identity(BaseModel):
    """What must agree for a cache to be of use."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: Annotated[str, Field(max_length=2000)]
    """Identity of the order in which training reads sequences."""
    tokenizer: Sha256
    """SHA-256 of `tokenizer.json`."""
    teacher: Sha256
    """SHA-256 of the teacher; see `identity.model_sha256`."""
    vocabulary: Annotated[int, Field(ge=2, le=1 << 24)]
    """Rows of the teacher's output matrix."""
    length: Annotated[int, Field(ge=1, le=1 << 20)]
    """Tokens of each sequence after which something is predicted."""
    method: Method
    """How words are chosen: drawn, drawn from equal parts of the distribution, or the likeliest."""
    words: Annotated[int, Field(ge=1, le=MOST_WORDS)]
    """Draws, or likeliest words, for each token."""
    seed: Annotated[int, Field(ge=0, lt=1 << 64)]
    """Of the draws."""

    @property
    def drawn(self) -> bool:
        """Whether weights are counts."""
        return self.method != "top-k"


class ShardHeader(BaseModel):
    """What a shard holds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    identity: Identity
    """Of the whole cache."""
    first: Annotated[int, Field(ge=0)]
    """Its first sequence."""
    count: Annotated[int, Field(ge=1, le=1 << 20)]
    """How many it has."""


@dataclass(frozen=True, slots=True)
class Words:
    """Words of T tokens and their weights, one token after the other; M words in all."""

    ids: NDArray[np.int64]
    """[M], ascending in each token."""
    weights: NDArray[Any]
    """[M]: counts as int64, or probabilities as float16."""
    lengths: NDArray[np.int64]
    """Words of each token [T]."""


def counted(draws: NDArray[np.int64]) -> Words:
    """What was drawn [T, n], ascending for each token, as words and counts."""
    new = np.ones(draws.shape, bool)
    new[:, 1:] = draws[:, 1:] != draws[:, :-1]
    starts = np.flatnonzero(new)
    counts = np.diff(np.append(starts, draws.size))
    return Words(draws.reshape(-1)[starts], counts, new.sum(1))


def encode(words: Words, identity: Identity) -> bytes:
    """The block of a sequence."""
    if identity.drawn:
        columns = [(words.weights - 1).astype(np.uint8)]
    else:
        columns = _bytes(words.weights.view("<u2"), 2)
    steps = np.diff(words.ids, prepend=0)
    starts = np.cumsum(words.lengths) - words.lengths
    steps[starts] = words.ids[starts]
    columns += _bytes(steps, _id_bytes(identity))
    codec = pa.Codec(_CODEC, compression_level=_LEVEL)
    parts = [_SIZE.pack(len(words.ids))]
    for column in columns:
        frame = codec.compress(column.tobytes(), asbytes=True)
        parts += _SIZE.pack(len(frame)), frame
    return b"".join(parts)


def decode(block: bytes, identity: Identity) -> Words:
    """What `encode` was given.

    Raises:
        ValueError: it is no block of such a cache.
    """
    (m,) = _unpack(_SIZE, block, 0)
    if not identity.length <= m <= identity.length * identity.words:
        raise ValueError("words")
    columns = _columns(block, m, (1 if identity.drawn else 2) + _id_bytes(identity))
    weights: NDArray[Any]
    if identity.drawn:
        weights = columns.pop(0).astype(np.int64) + 1
        sums = weights.cumsum()
        ends = np.flatnonzero(sums % identity.words == 0) + 1
        right = len(ends) == identity.length and sums[-1] == identity.length * identity.words
    else:
        weights = _number(columns[:2]).astype("<u2").view("<f2")
        columns = columns[2:]
        ends = np.arange(1, identity.length + 1) * identity.words
        right = ends[-1] == m and bool((weights >= 0).all())
    if not right:
        raise ValueError("weights")
    lengths = np.diff(ends, prepend=0)
    sums = _number(columns).cumsum()
    before = np.append(0, sums[ends[:-1] - 1])  # of the tokens in front, which count anew
    ids = sums - before.repeat(lengths)
    if ids.max() >= identity.vocabulary:
        raise ValueError("ids")
    return Words(ids, weights, lengths)


def padded(
    sequences: Sequence[Words], identity: Identity
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Ids and weights [B, T, K] of B sequences, K as many as the token with the most has.

    Counts become shares of n; weight 0 of word 0 fills up.
    """
    lengths = np.stack([words.lengths for words in sequences])  # [B, T]
    used = np.arange(lengths.max()) < lengths[..., None]
    ids = np.zeros(used.shape, np.int64)
    ids[used] = np.concatenate([words.ids for words in sequences])
    weights = np.zeros(used.shape, np.float32)
    weights[used] = np.concatenate([words.weights for words in sequences])
    if identity.drawn:
        weights /= identity.words
    return ids, weights


def preamble(header: ShardHeader, index: NDArray[Any]) -> bytes:
    """What stands in front of the blocks."""
    content = header.model_dump_json().encode()
    rest = content + index.tobytes()
    return _PREAMBLE.pack(MAGIC, VERSION, len(content), zlib.crc32(rest)) + rest


def preamble_size(header: ShardHeader) -> int:
    """Bytes in front of the blocks."""
    return _PREAMBLE.size + len(header.model_dump_json().encode()) + header.count * INDEX.itemsize


def read_preamble(read: Callable[[int], bytes]) -> tuple[ShardHeader, NDArray[Any]]:
    """Header and index of a shard.

    Args:
        read: gives the next so many bytes of the file, fewer at its end.

    Raises:
        ValueError: it is no shard of this version, or a damaged one.
    """
    magic, version, length, crc = _unpack(_PREAMBLE, read(_PREAMBLE.size), 0)
    if magic != MAGIC:
        raise ValueError("magic")
    if version != VERSION:
        raise ValueError(f"version {version}")
    if length > _MOST_JSON:
        raise ValueError("header")
    content = read(length)
    header = ShardHeader.model_validate_json(content)  # a ValidationError is a ValueError
    raw = read(header.count * INDEX.itemsize)
    if zlib.crc32(content + raw) != crc:
        raise ValueError("CRC-32")
    return header, np.frombuffer(raw, INDEX)


def tokens_crc(ids: NDArray[Any]) -> int:
    """CRC-32 of the tokens [T] of a sequence, by which other text is found out."""
    return zlib.crc32(ids.astype("<u4").tobytes())


def _id_bytes(identity: Identity) -> int:
    return -(-(identity.vocabulary - 1).bit_length() // 8)


def _bytes(values: NDArray[Any], n: int) -> list[NDArray[np.uint8]]:
    """Numbers as their n bytes, the lowest first, each an array."""
    return [(values >> 8 * at & 255).astype(np.uint8) for at in range(n)]


def _number(columns: Sequence[NDArray[np.uint8]]) -> NDArray[np.int64]:
    total = columns[0].astype(np.int64)
    for at, column in enumerate(columns[1:], 1):
        total |= column.astype(np.int64) << 8 * at
    return total


def _columns(block: bytes, m: int, n: int) -> list[NDArray[np.uint8]]:
    """The n columns [M] behind the count."""
    codec = pa.Codec(_CODEC)
    columns = []
    at = _SIZE.size
    for _ in range(n):
        (size,) = _unpack(_SIZE, block, at)
        at += _SIZE.size
        try:
            raw = codec.decompress(block[at : at + size], m, asbytes=True)
        except OSError as error:  # as pyarrow says it
            raise ValueError("zstd") from error
        columns.append(np.frombuffer(raw, np.uint8))
        at += size
    if at != len(block) or any(len(column) != m for column in columns):
        raise ValueError("size")
    return columns


def _unpack(form: struct.Struct, raw: bytes, at: int) -> tuple[Any, ...]:
    try:
        return form.unpack_from(raw, at)
    except struct.error:
        raise ValueError("size") from None
