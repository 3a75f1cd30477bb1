"""What a request may say: messages of known roles, in an order that an answer can follow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edge.errors import UsageError
from edge.text import one_line

__all__ = ["PlainMessage", "read_messages", "split_turns"]

_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
"""`developer` is OpenAI's newer name of `system`, which templates do not know."""

PlainMessage = dict[str, str]
"""`role` and `content`, checked."""


def read_messages(messages: Sequence[Mapping[str, Any]]) -> list[PlainMessage]:
    """Plain messages from those of a request.

    Args:
        messages: with `role` and `content`, which is a text or a list of text parts. Other
            fields may stand there empty, as in answers that clients send back.

    Raises:
        UsageError: there is none, a role is unknown, the system message is not the first,
            a content is no text, or the last message is not the user's.
    """
    if not messages:
        raise UsageError("prompt.no-messages", param="messages")
    plain = []
    for n, message in enumerate(messages):
        role, where = message.get("role"), f"messages[{n}]"
        if not isinstance(role, str) or role not in _ROLES:
            known = ", ".join(_ROLES)
            raise UsageError(
                "prompt.unknown-role", role=one_line(role), known=known, param=f"{where}.role"
            )
        if _ROLES[role] == "system" and n > 0:
            raise UsageError("prompt.system-not-first", param=f"{where}.role")
        for name, value in message.items():
            if name not in ("role", "content") and value not in (None, [], {}):
                raise UsageError("prompt.field", field=one_line(name), param=f"{where}.{name}")
        plain.append({"role": _ROLES[role], "content": _content(message.get("content"), where)})
    if plain[-1]["role"] != "user":
        raise UsageError("prompt.last-not-user", param="messages")
    return plain


def _content(content: Any, where: str) -> str:
    """A content as one string."""
    param = f"{where}.content"
    if isinstance(content, list):
        content = "".join(_part(part, param) for part in content)
    if not isinstance(content, str):
        raise UsageError("prompt.not-text", kind=type(content).__name__, param=param)
    try:
        content.encode()
    except UnicodeEncodeError as error:
        raise UsageError("prompt.not-unicode", param=param) from error
    return content


def _part(part: Any, param: str) -> str:
    kind = part.get("type") if isinstance(part, Mapping) else type(part).__name__
    text = part.get("text") if kind == "text" else None
    if not isinstance(text, str):
        raise UsageError("prompt.not-text", kind=one_line(kind), param=param)
    return text


def split_turns(
    messages: list[PlainMessage],
) -> tuple[list[PlainMessage], list[list[PlainMessage]]]:
    """The system message, if there is one, and the turns: a user's message and its answers.

    Answers before the first user's message (a greeting) are part of the first turn.
    """
    system = messages[:1] if messages[0]["role"] == "system" else []
    turns: list[list[PlainMessage]] = [[]]
    for message in messages[len(system) :]:
        if message["role"] == "user" and any(m["role"] == "user" for m in turns[-1]):
            turns.append([])
        turns[-1].append(message)
    return system, turns
