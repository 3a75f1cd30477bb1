"""The tokenizer that stands in a GGUF file, as llama.cpp runs it.

What a tokenizer does beyond GGUF's own fields (Lucie’s puts spaces behind apostrophes, and
takes them away again) stands in the file as the `tokenizer.json` that it was made from, by
GGUF's specification `tokenizer.huggingface.json`. Texts go through that one where it is there;
ids and control tokens are the same.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from edge.errors import DamagedModelError, EngineError
from edge.gguf_tokenizer import HUGGING_FACE
from edge.llamacpp.native import api
from edge.text import StreamDecoder, TextStream
from edge.tokenizer_json import TokenizerJson

__all__ = ["Vocab"]

# The pre-tokenizers of llama.cpp match with std::regex, which recurses for each
# character of a run and overflows the stack after 20,000. Text is cut where no
# word or gap has come to an end for this long.
_LONG_RUN = re.compile(r"\S{4096}|\s{4096}")
_TOO_MANY = -(2**31)  # llama_tokenize: the count does not fit 32 bits


class Vocab:
    """Text to ids and back. Reading only, so any thread may use it while the engine computes.

    Args:
        model: pointer to a loaded `llama_model`.
        path: of its file.

    Raises:
        DamagedModelError: the `tokenizer.json` in it is damaged.
        EngineError: the tokenizers library, which that needs, is not here.
    """

    def __init__(self, model: Any, path: Path) -> None:
        self._api = api()
        self._vocab = self._api.llama_model_get_vocab(model)
        self.n_vocab: int = self._api.llama_vocab_n_tokens(self._vocab)
        self.bos: int = self._api.llama_vocab_bos(self._vocab)
        self.add_bos: bool = self._api.llama_vocab_get_add_bos(self._vocab)
        self.bos_text = self._spelling(self.bos)
        self.eos_text = self._spelling(self._api.llama_vocab_eos(self._vocab))
        source = self._api.llama_model_chat_template(model, None)
        self.template: str | None = source.decode("utf-8", "replace") if source else None
        self._pieces: dict[int, bytes] = {}
        self._whole = self._read_whole(model, path)

    def _read_whole(self, model: Any, path: Path) -> TokenizerJson | None:
        key = HUGGING_FACE.encode()
        size: int = self._api.llama_model_meta_val_str(model, key, None, 0)
        if size < 0:
            return None
        buffer = ctypes.create_string_buffer(size + 1)
        self._api.llama_model_meta_val_str(model, key, buffer, size + 1)
        try:
            return TokenizerJson(buffer.raw[:size], self.n_vocab)
        except ValueError as error:
            raise DamagedModelError(
                "engine.tokenizer-json", path=str(path), key=HUGGING_FACE, reason=str(error)
            ) from error

    def _spelling(self, token: int) -> str:
        if token < 0:
            return ""
        text: bytes = self._api.llama_vocab_get_text(self._vocab, token)
        return text.decode("utf-8", "replace")

    @cached_property
    def eog(self) -> frozenset[int]:
        """Every end-of-generation token (EOS, EOT, EOM…)."""
        is_eog = self._api.llama_vocab_is_eog
        return frozenset(t for t in range(self.n_vocab) if is_eog(self._vocab, t))

    @cached_property
    def special_texts(self) -> tuple[str, ...]:
        """Spellings that `encode(special=True)` reads as control tokens, longest first."""
        control = self._api.LLAMA_TOKEN_ATTR_CONTROL | self._api.LLAMA_TOKEN_ATTR_UNKNOWN
        attr = self._api.llama_vocab_get_attr
        texts = {self._spelling(t) for t in range(self.n_vocab) if attr(self._vocab, t) & control}
        return tuple(sorted(filter(None, texts), key=lambda s: (-len(s), s)))

    def encode(self, text: str, *, special: bool, bos: bool = False) -> list[int]:
        """Ids of `text`.

        Args:
            text: any text; lone surrogates become “?”.
            special: read spellings of control tokens as those tokens.
            bos: put the BOS token first, if the model wants one there.

        Raises:
            EngineError: the text is too long for llama.cpp's 32-bit counts, or the tokenizer
                refuses it.
        """
        # llama.cpp's own flag for BOS would also append EOS, where a model has that set.
        ids = [self.bos] if bos and self.add_bos else []
        if self._whole is not None:
            return ids + self._whole.encode(text, special=special)
        for piece in _pieces(text):
            ids += self._encode(piece, special=special)
        return ids

    def _encode(self, text: str, *, special: bool) -> list[int]:
        data = text.encode("utf-8", "replace")
        size = len(data) + 8
        while True:
            ids = (self._api.llama_token * size)()
            n: int = self._api.llama_tokenize(
                self._vocab, data, len(data), ids, size, False, special
            )
            if n >= 0:
                return list(ids[:n])
            if n == _TOO_MANY:
                raise EngineError("engine.text-too-long", bytes=len(data))
            # Without a token for it, one character can become several.
            size = -n

    def piece(self, token: int) -> bytes:
        """The bytes of one token, b"" for control tokens; may be half a UTF-8 character."""
        found = self._pieces.get(token)
        if found is None:
            found = self._pieces[token] = self._read_piece(token)
        return found

    def stream(self) -> TextStream:
        """What turns the tokens of one answer into text."""
        return StreamDecoder(self) if self._whole is None else self._whole.stream()

    def _read_piece(self, token: int) -> bytes:
        size = 64
        while True:
            buffer = ctypes.create_string_buffer(size)
            n = self._api.llama_token_to_piece(self._vocab, token, buffer, size, 0, False)
            if n >= 0:
                return buffer.raw[:n]
            size = -n


def _pieces(text: str) -> Iterator[str]:
    """`text`, cut after each run that is too long."""
    start = 0
    for run in _LONG_RUN.finditer(text):
        yield text[start : run.end()]
        start = run.end()
    yield text[start:]
