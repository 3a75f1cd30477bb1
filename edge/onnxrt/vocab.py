"""The tokenizer of a Hugging Face folder, as the tokenizers library runs it."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any

from edge.errors import DamagedModelError, EngineError, ModelError
from edge.onnx_header import OnnxHeader
from edge.text import StreamDecoder, TextStream, one_line

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["Vocab"]

_FILE = "tokenizer.json"
_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
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
    """

    def __init__(self, header: OnnxHeader, n_vocab: int) -> None:
        self.n_vocab = n_vocab
        self._tokenizer = _load(header)
        self._special = threading.Lock()  # whether control tokens are read is a state of it
        self._added = self._tokenizer.get_added_tokens_decoder()
        self._settings = header.document("tokenizer_config.json")
        self._ends = [
            header.document(name).get("eos_token_id")
            for name in ("generation_config.json", "config.json")
        ]
        self.bos_text = self._named("bos_token")
        self.eos_text = self._named("eos_token")
        self.template = header.template
        found = self._tokenizer.token_to_id(self.bos_text) if self.bos_text else None
        self.bos = -1 if found is None else found
        wanted = self._settings.get("add_bos_token")
        if wanted is None:
            wanted = self._tokenizer.encode("").ids[:1] == [self.bos]
        self.add_bos = bool(wanted) and self.bos >= 0
        self._spelling = _spelling(self._tokenizer)
        self._pieces: dict[int, bytes] = {}

    def _named(self, key: str) -> str:
        given = self._settings.get(key)
        if isinstance(given, dict):
            given = given.get("content")
        return given if isinstance(given, str) else ""

    @cached_property
    def eog(self) -> frozenset[int]:
        """Every end-of-generation token."""
        found = set(_numbers(self._ends))
        found |= {id_ for id_, token in self._added.items() if token.content in _ENDS}
        eos = self._tokenizer.token_to_id(self.eos_text) if self.eos_text else None
        return frozenset(t for t in found | {eos} if t is not None and 0 <= t < self.n_vocab)

    @cached_property
    def special_texts(self) -> tuple[str, ...]:
        """Spellings that `encode(special=True)` reads as control tokens, longest first."""
        texts = {token.content for token in self._added.values() if token.special}
        return tuple(sorted(filter(None, texts), key=lambda s: (-len(s), s)))

    def encode(self, text: str, *, special: bool, bos: bool = False) -> list[int]:
        """Ids of `text`.

        Args:
            text: any text; lone surrogates become “?”.
            special: read spellings of control tokens as those tokens.
            bos: put the BOS token first, if the model wants one there.

        Raises:
            EngineError: the tokenizer refuses it.
        """
        clean = text.encode("utf-8", "replace").decode("utf-8")
        with self._special:
            self._tokenizer.encode_special_tokens = not special
            try:
                ids = self._tokenizer.encode(clean, add_special_tokens=False).ids
            except Exception as error:  # tokenizers raises nothing narrower
                raise EngineError("onnx.not-tokenized", reason=one_line(error)) from error
        return [self.bos, *ids] if bos and self.add_bos else ids

    def piece(self, token: int) -> bytes:
        """The bytes of one token, b"" for control tokens; may be half a UTF-8 character."""
        found = self._pieces.get(token)
        if found is None:
            found = self._pieces[token] = self._read_piece(token)
        return found

    def stream(self) -> TextStream:
        """What turns the tokens of one answer into text."""
        return _Window(self._tokenizer) if _has_fallback(self._tokenizer) else StreamDecoder(self)

    def _read_piece(self, token: int) -> bytes:
        added = self._added.get(token)
        if added is not None:
            return b"" if added.special else added.content.encode()
        text = self._tokenizer.id_to_token(token)
        return b"" if text is None else self._spelling(text)


class _Window:
    """Text by the tokenizer’s own decoder, which may look at what stands before a token.

    Lucie’s takes away the spaces that its tokenizer puts behind apostrophes and line ends. So
    tokens are decoded behind those whose text came last; in front of all stands a letter, for
    decoders drop a space where a text begins, and an answer goes on with one.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._begin(tokenizer.encode("a", add_special_tokens=False).ids)

    def _begin(self, ids: list[int]) -> None:
        self._ids, self._known = ids, len(ids)
        self._shown = len(self._tokenizer.decode(ids))

    def feed(self, token: int) -> str:
        """The text that `token` completes; may be empty."""
        self._ids.append(token)
        text = self._tokenizer.decode(self._ids)
        found = "" if text.endswith("\ufffd") else text[self._shown :]
        if found:
            self._begin(self._ids[self._known :])
        return found

    def flush(self) -> str:
        """The end of the answer: what waits is incomplete for good."""
        return self._tokenizer.decode(self._ids)[self._shown :]


def _load(header: OnnxHeader) -> Tokenizer:
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise EngineError("onnx.not-installed", reason=one_line(error)) from error

    path = header.folder / _FILE
    if not path.is_file():
        raise ModelError("onnx.no-tokenizer", path=str(path))
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises nothing narrower
        raise DamagedModelError("onnx.bad-file", path=str(path), reason=one_line(error)) from error


def _numbers(given: Iterable[Any]) -> Iterator[int]:
    for each in given:
        yield from (n for n in (each if isinstance(each, list) else [each]) if isinstance(n, int))


def _spelling(tokenizer: Tokenizer) -> Any:
    """How the tokenizer's own tokens are spelt in bytes."""
    return _with_fallback if _has_fallback(tokenizer) else _byte_level


def _has_fallback(tokenizer: Tokenizer) -> bool:
    return bool(getattr(tokenizer.model, "byte_fallback", False))


def _with_fallback(text: str) -> bytes:
    """Llama 2 and Lucie: ▁ is a space, and unknown characters are bytes by number."""
    byte = _BYTE.fullmatch(text)
    return bytes([int(byte[1], 16)]) if byte else text.replace("▁", " ").encode()


def _byte_level(text: str) -> bytes:
    """GPT-2, Llama 3, SmolLM: each byte is a printable character."""
    try:
        return bytes([_BYTES[char] for char in text])
    except KeyError:
        return text.encode()


def _characters() -> dict[str, int]:
    """GPT-2's table (encoder.py, `bytes_to_unicode`): what is printable stands for itself."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {
        chr(256 + n): byte for n, byte in enumerate(others)
    }


_BYTES = _characters()
