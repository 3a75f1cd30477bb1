"""Texts to ids and back as a `tokenizer.json` says, by the tokenizers library."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING

from edge.errors import EngineError
from edge.text import StreamDecoder, TextStream, one_line

if TYPE_CHECKING:
    from tokenizers import AddedToken, Tokenizer

__all__ = ["LOOKS_SPECIAL", "TokenizerJson", "parse"]

LOOKS_SPECIAL = re.compile(r"<\|.*\|>|<｜.*｜>|<unused.*>|<pad>|<mask>", re.DOTALL)
"""Added tokens that are control tokens, whatever the file says (llama.cpp's converter)."""

_BYTE = re.compile(r"<0x([0-9A-F]{2})>")


def parse(content: bytes) -> Tokenizer:
    """A tokenizer that reads texts whole, whatever its file says of padding and cutting them.

    Raises:
        EngineError: the tokenizers library is not here.
        ValueError: it is damaged.
    """
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise EngineError("engine.no-tokenizers", reason=one_line(error)) from error
    with _refusals(ValueError):
        tokenizer = Tokenizer.from_buffer(content)
        tokenizer.no_truncation()
        tokenizer.no_padding()
    return tokenizer


@contextmanager
def _refusals(told: Callable[[str], Exception]) -> Iterator[None]:
    """What the library raises: no errors of its own, and Rust’s panics are no `Exception`."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException as error:
        raise told(one_line(error)) from error


def _not_tokenized(reason: str) -> EngineError:
    return EngineError("engine.not-tokenized", reason=reason)


def _not_spelt(reason: str) -> EngineError:
    return EngineError("engine.not-spelt", reason=reason)


class TokenizerJson:
    """Any thread may use it. Implements what `edge.engine.Tokenizer` says of texts.

    Args:
        content: a `tokenizer.json`.
        n_vocab: rows of the model's logits.

    Raises:
        EngineError: the tokenizers library is not here.
        ValueError: it is damaged.
    """

    def __init__(self, content: bytes, n_vocab: int) -> None:
        self._tokenizer = parse(content)
        self._n_vocab = n_vocab
        self._special = threading.Lock()  # whether control tokens are read is a state of it
        with _refusals(ValueError):
            self._tokenizer.add_special_tokens(list(_control_tokens(self._tokenizer)))
        self.added: dict[int, AddedToken] = self._tokenizer.get_added_tokens_decoder()
        self._falls_back = bool(getattr(self._tokenizer.model, "byte_fallback", False))
        self._spelling = _with_fallback if self._falls_back else _byte_level
        self._pieces: dict[int, bytes] = {}

    @cached_property
    def special_texts(self) -> tuple[str, ...]:
        """Spellings that `encode(special=True)` reads as control tokens, longest first."""
        texts = {token.content for token in self.added.values() if token.special}
        return tuple(sorted(filter(None, texts), key=lambda s: (-len(s), s)))

    def id_of(self, spelling: str) -> int | None:
        """The token that is spelt so, if there is one."""
        return self._tokenizer.token_to_id(spelling)

    def first(self) -> list[int]:
        """What it puts before a text."""
        with _refusals(_not_tokenized):
            return self._tokenizer.encode("").ids

    def encode(self, text: str, *, special: bool) -> list[int]:
        """Ids of `text`, without what a model wants before it.

        Args:
            text: any text; lone surrogates become “?”.
            special: read spellings of control tokens as those tokens.

        Raises:
            EngineError: the tokenizer refuses it, or makes a token of it that the model has not.
        """
        clean = text.encode("utf-8", "replace").decode("utf-8")
        with self._special, _refusals(_not_tokenized):
            self._tokenizer.encode_special_tokens = not special
            ids = self._tokenizer.encode(clean, add_special_tokens=False).ids
        most = max(ids, default=0)
        if most >= self._n_vocab:
            raise EngineError("engine.unknown-token", token=most, tokens=self._n_vocab)
        return ids

    def piece(self, token: int) -> bytes:
        """The bytes of one token, b"" for control tokens; may be half a UTF-8 character."""
        found = self._pieces.get(token)
        if found is None:
            found = self._pieces[token] = self._read_piece(token)
        return found

    def _read_piece(self, token: int) -> bytes:
        added = self.added.get(token)
        if added is not None:
            return b"" if added.special else added.content.encode()
        text = self._tokenizer.id_to_token(token)
        return b"" if text is None else self._spelling(text)

    def stream(self) -> TextStream:
        """What turns the tokens of one answer into text."""
        return _Window(self._tokenizer) if self._falls_back else StreamDecoder(self)


class _Window:
    """Text by the tokenizer’s own decoder, which may look at what stands before a token.

    Lucie’s takes away the spaces that its tokenizer puts behind apostrophes and line ends. So
    tokens are decoded behind those whose text came last; in front of all stands a letter, for
    decoders drop a space where a text begins, and an answer goes on with one.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        with _refusals(_not_tokenized):
            ids = tokenizer.encode("a", add_special_tokens=False).ids
        self._begin(ids)

    def _begin(self, ids: list[int]) -> None:
        self._ids, self._known = ids, len(ids)
        self._shown = len(self._decode(ids))

    def _decode(self, ids: list[int]) -> str:
        with _refusals(_not_spelt):
            return self._tokenizer.decode(ids)

    def feed(self, token: int) -> str:
        """The text that `token` completes; may be empty."""
        self._ids.append(token)
        text = self._decode(self._ids)
        found = "" if text.endswith("\ufffd") else text[self._shown :]
        if found:
            self._begin(self._ids[self._known :])
        return found

    def flush(self) -> str:
        """The end of the answer: what waits is incomplete for good."""
        return self._decode(self._ids)[self._shown :]


def _control_tokens(tokenizer: Tokenizer) -> Iterator[AddedToken]:
    """Added tokens that nobody may spell, though their file does not say so."""
    for token in tokenizer.get_added_tokens_decoder().values():
        if not token.special and LOOKS_SPECIAL.fullmatch(token.content):
            token.special = True
            yield token


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
