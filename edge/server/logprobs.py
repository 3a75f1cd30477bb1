"""Log-probabilities in OpenAI's two shapes.

Both tell the model's own distribution, before temperature and other transforms.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edge.engine import Sampled, Tokenizer

__all__ = ["ChatLogprobs", "LegacyLogprobs", "LogprobFormat"]

_FLOOR = -9999.0  # what OpenAI tells for "practically impossible"; JSON has no infinity


class ChatLogprobs:
    """`choices[].logprobs` of `/v1/chat/completions`."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    def format(self, tokens: Sequence[Sampled]) -> dict[str, Any]:
        """The field for these tokens, which follow those of earlier calls."""
        content = []
        for sampled in tokens:
            entry = self._entry(sampled.id, sampled.logprob)
            entry["top_logprobs"] = [self._entry(token, lp) for token, lp in sampled.top]
            content.append(entry)
        return {"content": content, "refusal": None}

    def _entry(self, token: int, logprob: float | None) -> dict[str, Any]:
        piece = self._tokenizer.piece(token)
        # A token may be half a character, so its bytes are told beside its text.
        return {
            "token": piece.decode("utf-8", "replace"),
            "logprob": _finite(logprob),
            "bytes": list(piece),
        }


class LegacyLogprobs:
    """`choices[].logprobs` of `/v1/completions`; counts characters for `text_offset`."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._offset = 0

    def format(self, tokens: Sequence[Sampled]) -> dict[str, Any]:
        """The field for these tokens, which follow those of earlier calls."""
        texts, offsets = [], []
        for sampled in tokens:
            text = self._text(sampled.id)
            texts.append(text)
            offsets.append(self._offset)
            self._offset += len(text)
        return {
            "tokens": texts,
            "token_logprobs": [_finite(sampled.logprob) for sampled in tokens],
            "top_logprobs": [
                {self._text(token): _finite(lp) for token, lp in sampled.top} for sampled in tokens
            ],
            "text_offset": offsets,
        }

    def _text(self, token: int) -> str:
        return self._tokenizer.piece(token).decode("utf-8", "replace")


LogprobFormat = ChatLogprobs | LegacyLogprobs


def _finite(logprob: float | None) -> float:
    return _FLOOR if logprob is None else max(logprob, _FLOOR)
