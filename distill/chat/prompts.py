"""Prompts as they stand in JSONL files, which may be anybody's.

    {"prompt": "Why is the sky blue?", "language": "en", "licence": "CC0-1.0", "source": "…"}
    {"messages": [{"role": "system", "content": "…"}, {"role": "user", "content": "…"}]}

Answers at the end of `messages` are left out: the student gives its own.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError, model_validator

from distill.errors import DistillError
from distill.words import say
from edge.conversation import PlainMessage, read_messages
from edge.errors import UsageError
from edge.fault import fault_text
from edge.manifest import DataSource, Text
from edge.messages import text
from edge.text import one_line
from pretrain.sources import each_once

__all__ = ["Prompt", "identity", "languages", "read_prompts", "sources"]

_MOST_BYTES = 1 << 20
"""Of a line; a prompt of a million letters fits no window."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """What is answered."""

    messages: list[PlainMessage]
    """Of known roles; the last is the user's."""
    path: Path
    """The file that it stands in."""
    line: int
    """Its number there, from 1."""
    language: str | None = None
    """ISO 639-1."""
    licence: str | None = None
    """SPDX identifier, where it has one."""
    source: str | None = None
    """Where it is from."""

    def wrong(self, reason: object) -> DistillError:
        """The error that says what is wrong with it."""
        return _wrong(self.path, self.line, reason)


class _Row(BaseModel):
    # Data sets have keys of their own, which say nothing here.
    model_config = ConfigDict(extra="ignore", frozen=True)

    prompt: str | None = None
    messages: list[dict[str, Any]] | None = None
    language: Text | None = None
    licence: Text | None = Field(None, validation_alias=AliasChoices("licence", "license"))
    source: Text | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.prompt is None) == (self.messages is None):
            raise ValueError(say("chat.either"))
        return self

    def asked(self) -> list[dict[str, Any]]:
        if self.messages is None:
            return [{"role": "user", "content": self.prompt}]
        asked = list(self.messages)
        while asked and asked[-1].get("role") == "assistant":
            asked.pop()
        return asked


def read_prompts(paths: Sequence[Path]) -> list[Prompt]:
    """All prompts of some files, in their order.

    Raises:
        DistillError: a file cannot be read, or a line of it is no prompt; there is none at all.
    """
    found = [prompt for path in paths for prompt in _prompts(path)]
    if not found:
        raise DistillError("chat.no-prompts", path=", ".join(map(str, paths)))
    return found


def _prompts(path: Path) -> Iterator[Prompt]:
    for number, line in _lines(path):
        try:
            row = _Row.model_validate_json(line)
            if not (asked := row.asked()):
                raise _wrong(path, number, say("chat.no-question"))
            messages = read_messages(asked)
        except ValidationError as error:
            raise _wrong(path, number, fault_text(error)) from None
        except UsageError as error:
            raise _wrong(path, number, error) from error
        if not messages[-1]["content"].strip():
            raise _wrong(path, number, say("chat.empty"))
        if any("\0" in message["content"] for message in messages):
            raise _wrong(path, number, text("fault.nul"))
        yield Prompt(messages, path, number, row.language, row.licence, row.source)


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Lines that say something, by their number."""
    if not path.is_file():  # a named pipe would be waited for
        raise DistillError("chat.no-file", path=str(path))
    try:
        with path.open("rb") as file:
            number = 0
            while line := file.readline(_MOST_BYTES + 1):
                number += 1
                if len(line) > _MOST_BYTES:
                    raise _wrong(path, number, f"> {_MOST_BYTES >> 20} MiB")
                if line.strip():
                    yield number, line
    except OSError as error:
        reason = error.strerror or str(error)
        raise DistillError("chat.unreadable", path=str(path), reason=reason) from error


def _wrong(path: Path, line: int, reason: object) -> DistillError:
    said = one_line(reason).removesuffix(".")
    return DistillError("chat.line", path=str(path), line=line, reason=said)


def identity(prompts: Sequence[Prompt]) -> str:
    """SHA-256 of all that is asked, in order."""
    digest = hashlib.sha256()
    for prompt in prompts:
        digest.update(json.dumps(prompt.messages).encode() + b"\n")
    return digest.hexdigest()


def sources(prompts: Sequence[Prompt]) -> tuple[DataSource, ...]:
    """Where the prompts are from: what they say, or else the names of their files."""
    return each_once(
        (
            DataSource(
                name=prompt.source or one_line(prompt.path.name),
                licence=prompt.licence,
                size=sum(len(m["content"].encode()) for m in prompt.messages),
            )
            for prompt in prompts
        ),
        sum,
    )


def languages(prompts: Sequence[Prompt]) -> tuple[str, ...]:
    """Those that prompts say they are in, the strongest first."""
    counted = Counter(prompt.language for prompt in prompts if prompt.language)
    return tuple(language for language, _ in counted.most_common())
