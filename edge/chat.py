"""From messages to prompt ids that fit the window."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from edge.conversation import PlainMessage, read_messages, split_turns
from edge.errors import ContextFullError, ModelError
from edge.template import ChatTemplate

if TYPE_CHECKING:
    from edge.engine import Tokenizer

__all__ = ["Chat", "Prompt"]

_PRIVATE = re.compile("[\U00100000-\U0010fffd]")  # plane 16, given to no script
# Rough bounds of UTF-8 bytes in a token, to know what is not worth tokenizing.
_BYTES_PER_TOKEN = 8
_KEPT_COUNTS = 8_192
_KEPT_PROBES = 16

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Prompt:
    """What to evaluate for an answer."""

    ids: list[int]
    """[T] token ids."""
    pinned: int
    """How many of them belong to the system message; 0 where there is none."""
    dropped_turns: int
    """Oldest turns that were left out so that the rest fits."""
    n_messages_kept: int
    """Messages in the prompt, the system message included."""


class Chat:
    """One model's way to read conversations. Any thread may use it.

    Args:
        tokenizer: the model's.
        template_source: its chat template; None where it has none.
    """

    def __init__(self, tokenizer: Tokenizer, template_source: str | None) -> None:
        self._tokenizer = tokenizer
        self._source = template_source
        self._template = ChatTemplate(template_source or "", tokenizer.bos_text, tokenizer.eos_text)
        self._counts: _Recent[int] = _Recent(_KEPT_COUNTS)
        self._probes: _Recent[list[int]] = _Recent(_KEPT_PROBES)

    def prompt(self, messages: Sequence[Mapping[str, Any]], window: int, reserve: int) -> Prompt:
        """The prompt for the next answer.

        Where all does not fit, the oldest turns are left out, whole; a turn is a user's
        message with the answers after it. The system message and the newest user's
        message stay. So much is left out at once that half the room is free: then the
        cut stays where it is for many turns, and so does what the engine remembers.

        Args:
            messages: as in OpenAI's API: `role` and `content` (text or text parts), a
                system message at most once and first, the user's last.
            window: tokens that prompt and answer may have together.
            reserve: tokens of these to keep for the answer.

        Raises:
            ContextFullError: the system message and the newest message alone do not fit.
            UsageError: the messages are wrong, or the template refuses them.
            ModelError: the model has no template, or it fails.
        """
        if self._source is None:
            raise ModelError("prompt.no-template")
        system, turns = split_turns(read_messages(messages))
        room = window - reserve
        now = datetime.now()
        first, ids = self._fit(system, turns, room, now)
        if len(ids) > room:
            newest = self._count(turns[-1][-1]["content"])
            standing = self._count(system[0]["content"]) if system else 0
            raise ContextFullError(
                "prompt.system-too-long" if standing > newest else "prompt.context-full",
                tokens=len(ids),
                message_tokens=max(newest, standing),
                window=window,
                reserve=reserve,
                param="messages",
            )
        return Prompt(
            ids=ids,
            pinned=self._pinned(system, ids, now) if system else 0,
            dropped_turns=first,
            n_messages_kept=len(system) + sum(map(len, turns[first:])),
        )

    # -- the window --------------------------------------------------------------------

    def _fit(
        self, system: list[PlainMessage], turns: list[list[PlainMessage]], room: int, now: datetime
    ) -> tuple[int, list[int]]:
        """The first turn that is kept, and the ids from there; too long only if it is the last."""
        last = len(turns) - 1
        size = sum(len(m["content"].encode()) for m in [*system, *_flat(turns)])
        if last == 0 or size <= room * _BYTES_PER_TOKEN:
            ids = self._ids([*system, *_flat(turns)], now)
            if len(ids) <= room or last == 0:
                return 0, ids
        first = self._cut(system, turns, room, now)
        while True:
            ids = self._ids([*system, *_flat(turns[first:])], now)
            if len(ids) <= room or first == last:
                return first, ids
            # The counts of single messages were too small: what a template may do.
            first += (last - first + 1) // 2

    def _cut(
        self, system: list[PlainMessage], turns: list[list[PlainMessage]], room: int, now: datetime
    ) -> int:
        """The first turn to keep, by replaying the conversation from its beginning.

        Each turn is asked in its time: where it did not fit, the oldest are dropped
        until half the room is free. As earlier requests saw the same turns, they cut at
        the same places: the cut follows from the messages alone and still stays put.
        """
        probe = [{"role": "user", "content": "A"}]
        header = self._count("A")
        base = len(self._probe(system, "A", now)) - header
        dialogue = [*probe, {"role": "assistant", "content": "A"}, *probe]
        per_turn = len(self._ids(dialogue, now)) - len(self._ids(probe, now)) - 2 * header
        # Content is counted by itself; where it meets the template one token may be more.
        sizes = [
            per_turn + sum(self._count(message["content"]) + 1 for message in turn)
            for turn in turns
        ]
        first = held = 0
        for asked, turn in enumerate(turns):
            question = base + self._count(turn[0]["content"]) + 1
            if held + question > room:
                while first < asked and held + question > room // 2:
                    held -= sizes[first]
                    first += 1
            held += sizes[asked]
        return first

    def _count(self, content: str) -> int:
        """Tokens of one message's content by itself."""
        return self._counts.get(
            _digest(content), lambda: len(self._tokenizer.encode(content, special=False))
        )

    # -- the system message ------------------------------------------------------------

    def _pinned(self, system: list[PlainMessage], ids: list[int], now: datetime) -> int:
        """How many of `ids` are the same whatever the user says after this system message."""
        probes = (self._probe(system, "A", now), self._probe(system, "1", now))
        return min(_common(*probes), _common(ids, probes[0]))

    def _probe(self, system: list[PlainMessage], content: str, now: datetime) -> list[int]:
        """Ids of the shortest conversation with this system message."""
        text, spelled = self._text([*system, {"role": "user", "content": content}], now)
        # One private character may stand for different spellings.
        key = _digest(text + repr(sorted(spelled.items())))
        return self._probes.get(key, lambda: self._encode(text, spelled))

    # -- text and ids ------------------------------------------------------------------

    def _ids(self, messages: list[PlainMessage], now: datetime) -> list[int]:
        return self._encode(*self._text(messages, now))

    def _text(self, messages: list[PlainMessage], now: datetime) -> tuple[str, dict[str, str]]:
        """The rendered text, and what stands for the control tokens that users spelled."""
        guarded, spelled = self._guard(messages)
        return self._template.render(guarded, now=now), spelled

    def _guard(self, messages: list[PlainMessage]) -> tuple[list[PlainMessage], dict[str, str]]:
        """Put a private character in the place of every spelling of a control token.

        Templates handle it like any letter, and no text of the conversation holds it.
        """
        pattern = self._special
        contents = [message["content"] for message in messages]
        if pattern is None or not any(map(pattern.search, contents)):
            return messages, {}
        used = set(_PRIVATE.findall("".join([*contents, self._source or ""])))
        free = (c for c in map(chr, range(0x100000, 0x10FFFE)) if c not in used)
        marks: dict[str, str] = {}

        def mark(match: re.Match[str]) -> str:
            if match[0] not in marks:
                marks[match[0]] = next(free)
            return marks[match[0]]

        guarded = [{**m, "content": pattern.sub(mark, m["content"])} for m in messages]
        return guarded, {char: spelling for spelling, char in marks.items()}

    @cached_property
    def _special(self) -> re.Pattern[str] | None:
        texts = sorted(self._tokenizer.special_texts, key=len, reverse=True)
        return re.compile("|".join(map(re.escape, texts))) if texts else None

    def _encode(self, text: str, spelled: dict[str, str]) -> list[int]:
        """Ids of a rendered text; `spelled` maps private characters to what users wrote.

        Text between two control tokens of the template is tokenized by itself anyway, so
        where users spelled one it is read apart, with control tokens off, and the rest
        keeps the ids that it has without such a user.
        """
        encode = self._tokenizer.encode
        # Templates may write the BOS token themselves.
        bos = not text.startswith(self._tokenizer.bos_text)
        if not spelled or self._special is None:
            return encode(text, special=True, bos=bos)
        marks = str.maketrans(spelled)
        ids: list[int] = []
        for part, tainted in _runs(text, self._special, "".join(spelled)):
            ids += encode(part.translate(marks), special=not tainted, bos=bos and not ids)
        return ids


class _Recent(Generic[_T]):
    """Computed values, the newest `most` of them."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._values: dict[bytes, _T] = {}
        self._lock = threading.Lock()

    def get(self, key: bytes, compute: Callable[[], _T]) -> _T:
        """The value of `key`, computed where it is not there."""
        with self._lock:
            if key in self._values:
                return self._values[key]
        value = compute()
        with self._lock:
            self._values[key] = value
            if len(self._values) > self._most:
                del self._values[next(iter(self._values))]
        return value


def _digest(text: str) -> bytes:
    # A template may write half a surrogate pair.
    return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=16).digest()


def _common(left: Sequence[int], right: Sequence[int]) -> int:
    """Length of the common prefix."""
    for n, (a, b) in enumerate(zip(left, right, strict=False)):
        if a != b:
            return n
    return min(len(left), len(right))


def _flat(turns: list[list[PlainMessage]]) -> list[PlainMessage]:
    return [message for turn in turns for message in turn]


def _runs(text: str, special: re.Pattern[str], marks: str) -> list[tuple[str, bool]]:
    """Cut `text` into what lies between two control tokens and holds a mark, and the rest.

    Returns:
        Parts in order, each with whether it holds a mark.
    """
    runs: list[tuple[str, bool]] = []
    clean = at = 0
    ends = [match.span() for match in special.finditer(text)]
    for start, end in [*ends, (len(text), len(text))]:
        if any(mark in text[at:start] for mark in marks):
            runs += [(text[clean:at], False), (text[at:start], True)]
            clean = start
        at = end
    runs.append((text[clean:], False))
    return [run for run in runs if run[0]]
