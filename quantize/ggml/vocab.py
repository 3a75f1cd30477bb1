"""The tokenizer of a Hugging Face folder as the fields of a GGUF file that llama.cpp reads.

Two kinds are understood, both byte-pair encoding:

- *byte-level* (GPT-2, Llama 3, SmolLM): bytes are spelt as printable characters, words are
  cut by rules that have a name in llama.cpp. GGUF calls it `gpt2` and keeps the merges.
- *with byte fallback* (Llama 2, Lucie): spaces are spelt ▁, unknown characters as bytes.
  GGUF calls it `llama`. It merges by a score for each token instead of by a list of merges;
  the rank of the merge that makes a token, negated, gives the same order. A space may be put
  before a text; all else that a tokenizer does to texts (Lucie puts a space behind each
  apostrophe and line end, and takes it away again) has no field. Such a tokenizer goes into
  the file whole, too, by GGUF's specification `tokenizer.huggingface.json`: our engine reads
  and writes texts by that; programs that do not know it are nearly right without.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from edge.checkpoint import Checkpoint
from edge.errors import CheckpointError
from edge.gguf_tokenizer import HUGGING_FACE
from edge.tokenizer_json import LOOKS_SPECIAL
from quantize.ggml.pretokenizers import name_of

if TYPE_CHECKING:
    from gguf import GGUFWriter

__all__ = ["TokenType", "Vocab", "read_vocab"]

_FILE = "tokenizer.json"
_BYTE = re.compile(r"<0x[0-9A-F]{2}>")
_SPACE = "▁"

_NORMALIZERS: tuple[dict[str, Any], ...] = (
    {"type": "Prepend", "prepend": _SPACE},
    {"type": "Prepend", "prepend": " "},
    {"type": "Replace", "pattern": {"String": " "}, "content": _SPACE},
)
_PRE_TOKENIZERS: tuple[dict[str, Any], ...] = ({"type": "Metaspace", "replacement": _SPACE},)
_DECODERS: tuple[dict[str, Any], ...] = (
    {"type": "Replace", "pattern": {"String": _SPACE}, "content": " "},
    {"type": "Metaspace", "replacement": _SPACE},
    {"type": "ByteFallback"},
    {"type": "Fuse"},
    {"type": "Strip", "content": " ", "start": 1, "stop": 0},
)
"""What llama.cpp does to texts with a vocabulary with byte fallback."""


class TokenType(IntEnum):
    """What a token is (`llama_token_type` of llama.h)."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass(frozen=True, slots=True)
class Vocab:
    """A vocabulary as GGUF has it."""

    model: str
    """`gpt2` or `llama`."""
    pre: str
    """Name of the rules that cut words."""
    tokens: list[str]
    types: list[TokenType]
    scores: list[float] | None
    """Of model `llama`: the higher, the earlier it is merged."""
    space_prefix: bool | None
    """Of model `llama`: whether a space is put before a text."""
    whole: str | None = None
    """The document that it was read from, where the other fields do not say all of it."""

    def write(self, writer: GGUFWriter) -> None:
        """Add its fields to a file."""
        writer.add_tokenizer_model(self.model)
        writer.add_tokenizer_pre(self.pre)
        writer.add_token_list(self.tokens)
        if self.scores is not None:
            writer.add_token_scores(self.scores)
        writer.add_token_types([int(kind) for kind in self.types])
        if self.space_prefix is not None:
            writer.add_add_space_prefix(self.space_prefix)
        if self.whole is not None:
            writer.add_string(HUGGING_FACE, self.whole)


def read_vocab(checkpoint: Checkpoint) -> Vocab:
    """The vocabulary of a model folder, padded to the rows of its embedding.

    Raises:
        CheckpointError: there is no tokenizer.json, it is of no kind that llama.cpp has, or it
            has more tokens than the embedding has rows.
    """
    given = checkpoint.document(_FILE)
    path = str(checkpoint.path / _FILE)
    if given is None:
        raise CheckpointError("checkpoint.no-file", path=path)
    model = given.get("model")
    if not isinstance(model, dict) or model.get("type") != "BPE":
        kind = model.get("type") if isinstance(model, dict) else None
        raise CheckpointError("checkpoint.tokenizer", path=path, kind=str(kind)[:64])
    try:
        texts, types = _tokens(given, checkpoint.config.vocab_size)
        if model.get("byte_fallback"):
            scores = _scores(texts, model["merges"])
            whole = None if _is_said(given) else json.dumps(given, separators=(",", ":"))
            return Vocab("llama", "default", texts, types, scores, _space_prefix(given), whole)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError("checkpoint.bad-json", path=path, reason=str(error)[:200]) from error
    except IndexError:
        count, rows = _count(given), checkpoint.config.vocab_size
        raise CheckpointError("checkpoint.vocabulary", path=path, tokens=count, rows=rows) from None
    pre = name_of(given.get("pre_tokenizer"))
    if pre is None:
        raise CheckpointError("checkpoint.pre-tokenizer", path=path)
    if given.get("normalizer") is not None:
        raise CheckpointError("checkpoint.normalizer", path=path)
    return Vocab("gpt2", pre, texts, types, None, None)


def _count(given: dict[str, Any]) -> int:
    return 1 + max((id_ for _, id_, _ in _entries(given)), default=-1)


def _entries(given: dict[str, Any]) -> Iterator[tuple[str, int, TokenType]]:
    """Text, id and type of each token; what is added later stands last and wins."""
    unknown = given["model"].get("unk_token")
    for text, id_ in given["model"]["vocab"].items():
        if given["model"].get("byte_fallback") and _BYTE.fullmatch(text):
            yield text, id_, TokenType.BYTE
        elif given["model"].get("byte_fallback") and text == unknown:
            yield text, id_, TokenType.UNKNOWN
        else:
            yield text, id_, TokenType.NORMAL
    for added in given.get("added_tokens") or ():
        text, id_ = added["content"], added["id"]
        if added.get("special") or LOOKS_SPECIAL.fullmatch(text):
            is_unknown = given["model"].get("byte_fallback") and text == unknown
            yield text, id_, TokenType.UNKNOWN if is_unknown else TokenType.CONTROL
        else:
            yield text.replace(_SPACE, " "), id_, TokenType.USER_DEFINED


def _tokens(given: dict[str, Any], rows: int) -> tuple[list[str], list[TokenType]]:
    """Texts and types by id. Rows without a token are spelt as llama.cpp's converter does."""
    texts = [f"[PAD{n}]" for n in range(rows)]
    types = [TokenType.UNUSED] * rows
    for text, id_, kind in _entries(given):
        if id_ < 0:
            raise ValueError(f"id {id_}")
        texts[id_], types[id_] = text, kind
    return texts, types


def _scores(texts: list[str], merges: list[Any]) -> list[float]:
    """For each token the rank of the first merge that makes it, negated; 0 where none does."""
    ranks: dict[str, int] = {}
    for rank, merge in enumerate(merges):
        left, right = merge.split(" ", 1) if isinstance(merge, str) else merge
        ranks.setdefault(left + right, rank + 1)
    return [-float(ranks.get(text, 0)) for text in texts]


def _steps(given: dict[str, Any], part: str, inner: str) -> list[dict[str, Any]]:
    """The steps of a part of the tokenizer, one after the other."""
    whole = given.get(part) or {}
    steps: list[dict[str, Any]] = whole.get(inner, [whole] if whole else [])
    return steps


def _space_prefix(given: dict[str, Any]) -> bool:
    """Whether the tokenizer puts a space before a text, which it spells ▁."""
    steps = (
        *_steps(given, "normalizer", "normalizers"),
        *_steps(given, "pre_tokenizer", "pretokenizers"),
    )
    return any(
        (step.get("type") == "Prepend" and step.get("prepend") in (_SPACE, " "))
        or (step.get("type") == "Metaspace" and step.get("prepend_scheme", "always") != "never")
        for step in steps
    )


def _is_said(given: dict[str, Any]) -> bool:
    """Whether GGUF's own fields say all that the tokenizer does to a text."""
    return all(
        any(each.items() <= step.items() for each in known)
        for part, inner, known in (
            ("normalizer", "normalizers", _NORMALIZERS),
            ("pre_tokenizer", "pretokenizers", _PRE_TOKENIZERS),
            ("decoder", "decoders", _DECODERS),
        )
        for step in _steps(given, part, inner)
    )
