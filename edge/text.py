"""From token bytes to text that may be shown: whole characters, stop strings, foreign reasons."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from textwrap import fill
from typing import Protocol

__all__ = ["StopStrings", "StreamDecoder", "TextStream", "in_lines", "one_line"]

_MAX_REASON = 200


class TextStream(Protocol):
    """Token ids to text, as they come. Never gives out half a character."""

    def feed(self, token: int) -> str:
        """The text that `token` completes; may be empty."""

    def flush(self) -> str:
        """The end of the answer: what waits is incomplete for good."""


class Pieces(Protocol):
    """What tokens are made of."""

    def piece(self, token: int) -> bytes:
        """The bytes of one token."""


class StreamDecoder:
    """A `TextStream` of tokens whose bytes are simply joined.

    A token may end in the middle of a character; its bytes wait for the rest.
    Bytes that can be no character become U+FFFD.

    Args:
        tokenizer: whose tokens they are.
    """

    def __init__(self, tokenizer: Pieces) -> None:
        self._piece = tokenizer.piece
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, token: int) -> str:
        """The text that `token` completes; may be empty."""
        return self._decoder.decode(self._piece(token))

    def flush(self) -> str:
        """The end of the answer: what waits is incomplete for good."""
        return self._decoder.decode(b"", final=True)


class StopStrings:
    """Ends an answer where one of some strings appears, which is not shown.

    Text is held back only while it may be the beginning of one of them. What comes
    out does not depend on how the text was cut into pieces: the string that is
    complete first stops, the longest of those that are complete at once.

    Args:
        stops: the strings, none of them empty.

    Raises:
        ValueError: one is empty.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        if not all(stops):
            raise ValueError("an empty stop string")
        self._stops = tuple(stops)
        self._beginnings = {stop[:n] for stop in stops for n in range(1, len(stop))}
        self._longest = max(map(len, self._beginnings), default=0)
        self._held = ""
        self._stopped = False

    def feed(self, text: str) -> tuple[str, bool]:
        """More of the answer; returns what may be shown now, and whether a stop was found."""
        if self._stopped:
            return "", True
        text = self._held + text
        found = [(at + len(stop), at) for stop in self._stops if (at := text.find(stop)) >= 0]
        if found:
            self._held, self._stopped = "", True
            return text[: min(found)[1]], True
        cut = len(text) - self._held_length(text)
        self._held = text[cut:]
        return text[:cut], False

    def _held_length(self, text: str) -> int:
        for n in range(min(self._longest, len(text)), 0, -1):
            if text[-n:] in self._beginnings:
                return n
        return 0

    def flush(self) -> str:
        """The end of the answer: what was held back was no stop string."""
        held, self._held = self._held, ""
        return held


def one_line(reason: object, most: int = _MAX_REASON) -> str:
    """A reason in the words of a library or a model file: one line, safe on a terminal.

    Args:
        reason: its text.
        most: characters that it may have.
    """
    line = " ".join(str(reason).split())
    shown = "".join(char if char.isprintable() else "\ufffd" for char in line[:most])
    return f"{shown}…" if len(line) > most else shown


def in_lines(text: str, width: int) -> str:
    """A text in lines of so many characters at most, none of its words broken."""
    return fill(text, width, break_long_words=False, break_on_hyphens=False)
