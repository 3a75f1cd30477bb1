"""The tokenizer of an ONNX model’s folder: `tokenizer.json`, and what the files beside it say."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Any

from edge.errors import DamagedModelError, ModelError
from edge.onnx_header import OnnxHeader
from edge.text import TextStream
from edge.tokenizer_json import TokenizerJson

__all__ = ["Vocab"]

_FILE = "tokenizer.json"
_ENDS = frozenset(
    ("<|im_end|>", "<|eot_id|>", "<|end|>", "<end_of_turn>", "<|endoftext|>", "<|eom_id|>", "<EOT>")
)
"""Control tokens that end an answer whatever the files say, as in llama.cpp (llama-vocab.cpp)."""


class Vocab:
    """Implements `edge.engine.Tokenizer`. Any thread may use it.

    Args:
        header: of the model whose folder has the tokenizer.
        n_vocab: rows of its logits.

    Raises:
        ModelError: there is no tokenizer, or it is damaged.
        EngineError: the tokenizers library is not here.
    """

    def __init__(self, header: OnnxHeader, n_vocab: int) -> None:
        self.n_vocab = n_vocab
        self._tokenizer = _load(header, n_vocab)
        self._settings = header.document("tokenizer_config.json")
        self._ends = [
            header.document(name).get("eos_token_id")
            for name in ("generation_config.json", "config.json")
        ]
        self.bos_text = self._named("bos_token")
        self.eos_text = self._named("eos_token")
        self.template = header.template
        found = self._tokenizer.id_of(self.bos_text) if self.bos_text else None
        self.bos = -1 if found is None else found
        wanted = self._settings.get("add_bos_token")
        if wanted is None:
            wanted = self._tokenizer.first()[:1] == [self.bos]
        self.add_bos = bool(wanted) and self.bos >= 0

    def _named(self, key: str) -> str:
        given = self._settings.get(key)
        if isinstance(given, dict):
            given = given.get("content")
        return given if isinstance(given, str) else ""

    @cached_property
    def eog(self) -> frozenset[int]:
        """Every end-of-generation token."""
        found = set(_numbers(self._ends))
        found |= {id_ for id_, token in self._tokenizer.added.items() if token.content in _ENDS}
        eos = self._tokenizer.id_of(self.eos_text) if self.eos_text else None
        return frozenset(t for t in found | {eos} if t is not None and 0 <= t < self.n_vocab)

    @property
    def special_texts(self) -> tuple[str, ...]:
        """Spellings that `encode(special=True)` reads as control tokens, longest first."""
        return self._tokenizer.special_texts

    def encode(self, text: str, *, special: bool, bos: bool = False) -> list[int]:
        """Ids of `text`.

        Args:
            text: any text; lone surrogates become “?”.
            special: read spellings of control tokens as those tokens.
            bos: put the BOS token first, if the model wants one there.

        Raises:
            EngineError: the tokenizer refuses it.
        """
        ids = self._tokenizer.encode(text, special=special)
        return [self.bos, *ids] if bos and self.add_bos else ids

    def piece(self, token: int) -> bytes:
        """The bytes of one token, b"" for control tokens; may be half a UTF-8 character."""
        return self._tokenizer.piece(token)

    def stream(self) -> TextStream:
        """What turns the tokens of one answer into text."""
        return self._tokenizer.stream()


def _load(header: OnnxHeader, n_vocab: int) -> TokenizerJson:
    path = header.folder / _FILE
    if not path.is_file():
        raise ModelError("onnx.no-tokenizer", path=str(path))
    try:
        return TokenizerJson(path.read_bytes(), n_vocab)
    except OSError as error:
        raise ModelError("gguf.unreadable", path=str(path), reason=error.strerror or "") from error
    except ValueError as error:
        raise DamagedModelError("onnx.bad-file", path=str(path), reason=str(error)) from error


def _numbers(given: Iterable[Any]) -> Iterator[int]:
    for each in given:
        yield from (n for n in (each if isinstance(each, list) else [each]) if isinstance(n, int))
