"""The vocabulary of a GGUF file: what llama.cpp asserts of it, checked before.

Duplicate tokens abort the process (`id_to_token.size() == token_to_id.size()`), a
SentencePiece vocabulary without byte tokens ends it at the first odd character
(`byte_to_token` throws through the C API), and so on; see src/llama-vocab.cpp.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge.gguf_types import Array, ValueType
from edge.gguf_window import printable

if TYPE_CHECKING:
    from edge.gguf_reader import RawFile

__all__ = ["HUGGING_FACE", "MOST_TOKENS", "TOKENS", "Vocabulary", "check_tokenizer", "scan"]

MOST_TOKENS = 1 << 19
_PREFIX = "tokenizer.ggml."
TOKENS = f"{_PREFIX}tokens"
HUGGING_FACE = "tokenizer.huggingface.json"
"""A `tokenizer.json`, by GGUF's specification; read by the tokenizers library."""

_FEWEST_TOKENS = 256  # so that the ids which llama.cpp takes by default (at most 11) exist
_BUCKETS = 64
# llama.cpp repeats a token's whole text for each character of it that it cannot decode.
_MOST_SQUARES = 1 << 28
_BYTE_TOKENS = {b"<0x%02X>" % byte: byte for byte in range(256)} | {
    bytes([byte]): byte for byte in range(1, 256)
}
_IDS = ("bos", "eos", "eot", "eom", "unknown")
_ARRAYS = {
    "scores": ValueType.FLOAT32,
    "token_type": ValueType.INT32,
    "suppress_tokens": ValueType.INT32,
}
_SCALARS = {
    "pre": ValueType.STRING,
    "token_type_count": ValueType.UINT32,
    "add_bos_token": ValueType.BOOL,
    "add_eos_token": ValueType.BOOL,
    "add_sep_token": ValueType.BOOL,
    "add_space_prefix": ValueType.BOOL,
    "remove_extra_whitespaces": ValueType.BOOL,
    "normalizer.lowercase": ValueType.BOOL,
    "normalizer.strip_accents": ValueType.BOOL,
}
# fmt: off
_PRE_TOKENIZERS = frozenset((
    "a.x-4.0", "codeshell", "command-r", "dbrx", "deepseek-r1-qwen", "exaone", "exaone4",
    "falcon-h1", "falcon3", "gigachat", "gpt-2", "granite-docling", "hunyuan", "kormo",
    "lfm2", "llama-bpe", "llama-v3", "llama3", "megrez", "mellum", "mellum2", "midm-2.0",
    "minerva-7b", "mpt", "olmo", "phi-2", "pixtral", "qwen2", "qwen35", "refact",
    "smaug-bpe", "smollm", "solar-open", "stablelm2", "starcoder", "trillion",
    # These go through std::regex, which overflows an 8 MiB stack on a run of 20,000 to 40,000
    # characters (all of them spaces, or none): whoever encodes a text must cut such runs.
    "default", "deepseek-coder", "deepseek-llm", "deepseek-v3", "falcon", "gpt-4o",
    "llama4", "minicpm5", "seed-coder", "tekken", "viking",
))
# fmt: on
"""Ways to cut a text before byte-pair encoding that work on the bytes as GPT-2 spells them.

The others of llama.cpp abort on two spaces (whitespace), take minutes for a line of digits
(superbpe), or belong to architectures that are not read here.
"""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What is kept of the tokens' texts."""

    count: int
    distinct: int
    bytes_covered: int
    """How many of the 256 bytes have a token of their own."""
    squares: int
    """Sum of the squares of the lengths."""


def scan(tokens: Iterator[bytes]) -> Vocabulary:
    """Go once over the texts of all tokens, in order, and keep none.

    They are told apart by Python's hash, which is keyed anew in every process: two
    different texts that collide would be a wrong refusal, at odds of 1 in 10⁸ for the
    largest vocabulary. The hashes are kept in buckets that are compared one at a time,
    as a set of all of them would take 40 MiB.
    """
    buckets = [array("q") for _ in range(_BUCKETS)]
    append = [bucket.append for bucket in buckets]
    count = squares = 0
    covered = set()
    for token in tokens:
        if not token or b"\0" in token:
            # As C++ reads it: up to the first zero byte, and numbered where nothing is left.
            token = token.partition(b"\0")[0] or b"[EMPTY_%d]" % count  # noqa: PLW2901
        key = hash(token)
        append[key % _BUCKETS](key)
        squares += len(token) * len(token)
        if token in _BYTE_TOKENS:
            covered.add(_BYTE_TOKENS[token])
        count += 1
    distinct = sum(len(set(bucket)) for bucket in buckets)
    return Vocabulary(count, distinct, len(covered), squares)


def check_tokenizer(raw: RawFile) -> int:
    """Check everything that llama.cpp's tokenizer reads; returns the number of tokens.

    Raises:
        DamagedModelError: the vocabulary contradicts itself.
        ModelError: the tokenizer is of a kind that is not supported.
    """
    window = raw.window
    model = raw.values.get(f"{_PREFIX}model")
    if model not in ("gpt2", "llama"):
        raise window.unsupported("tokenizer", tokenizer=printable(model))
    vocabulary = raw.vocabulary
    if vocabulary is None:
        raise window.damaged("missing-key", key=TOKENS)
    if vocabulary.count < _FEWEST_TOKENS:
        raise window.damaged("too-few-tokens", count=vocabulary.count, least=_FEWEST_TOKENS)
    if vocabulary.distinct < vocabulary.count:
        doubles = vocabulary.count - vocabulary.distinct
        raise window.damaged("duplicate-tokens", count=doubles)
    if vocabulary.squares > _MOST_SQUARES:
        raise window.damaged("tokens-too-long")
    if model == "llama":
        if vocabulary.bytes_covered < 256:
            raise window.damaged("missing-byte-tokens", count=256 - vocabulary.bytes_covered)
    else:
        _check_pairs(raw)
    _check_arrays(raw, vocabulary.count)
    _check_scalars(raw, vocabulary.count)
    return vocabulary.count


def _check_pairs(raw: RawFile) -> None:
    """Byte-pair encoding: its merges and its pre-tokenizer."""
    pre = raw.values.get(f"{_PREFIX}pre", "default")
    if pre not in _PRE_TOKENIZERS:
        raise raw.window.unsupported("pre-tokenizer", tokenizer=printable(pre))
    key = f"{_PREFIX}merges"
    merges = raw.values.get(key)
    if not isinstance(merges, Array) or merges.kind is not ValueType.STRING:
        raise raw.window.damaged("missing-key", key=key)


def _check_arrays(raw: RawFile, n_vocab: int) -> None:
    """Scores and types stand beside the tokens, one each."""
    for name, kind in _ARRAYS.items():
        key = f"{_PREFIX}{name}"
        if key not in raw.kinds:
            continue
        found = raw.values.get(key)
        if not isinstance(found, Array) or found.kind is not kind:
            raise raw.window.damaged("key-type", key=key, expected=f"{kind.name}[]")
        if found.count != n_vocab and name != "suppress_tokens":
            raise raw.window.damaged("array-length", key=key, count=found.count, expected=n_vocab)


def _check_scalars(raw: RawFile, n_vocab: int) -> None:
    """Types of all, and that the special tokens which are used are tokens."""
    if raw.kinds.get(HUGGING_FACE, ValueType.STRING) is not ValueType.STRING:
        raise raw.window.damaged("key-type", key=HUGGING_FACE, expected="STRING")
    for key, kind in raw.kinds.items():
        name = key.removeprefix(_PREFIX)
        expected = ValueType.UINT32 if key.endswith("_token_id") else _SCALARS.get(name, kind)
        if key.startswith(_PREFIX) and kind is not expected:
            raise raw.window.damaged("key-type", key=key, expected=expected.name)
    for name in _IDS:
        key = f"{_PREFIX}{name}_token_id"
        value = raw.values.get(key)
        if isinstance(value, int) and value >= n_vocab:
            raise raw.window.damaged("token-id", key=key, value=value, n_vocab=n_vocab)
