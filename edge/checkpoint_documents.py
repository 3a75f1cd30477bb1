"""The JSON and the texts of a model folder: read with bounds, and checked before they are used."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from edge.errors import CheckpointError
from edge.messages import text
from edge.regular_file import check_regular

__all__ = ["check_documents", "read_object", "shown", "unreadable"]

_DOCUMENTS = ("tokenizer_config.json", "generation_config.json", "special_tokens_map.json")
_TEXTS = ("README.md", "chat_template.jinja")
_MOST_JSON = 256 << 20  # a tokenizer.json with 256,000 tokens and its merges is 35 MB
_MOST_TEXT = 16 << 20
_END = "eos_token_id"


def check_documents(path: Path, vocabulary: int) -> None:
    """What is read of these is believed later on; a damaged one is no reason to leave it out.

    Args:
        path: the model folder.
        vocabulary: how many tokens its model has.

    Raises:
        CheckpointError: one cannot be read, or says what cannot be.
    """
    for name in _DOCUMENTS:
        if (path / name).exists():
            _check(path / name, read_object(path / name), vocabulary)
    for name in _TEXTS:
        if (path / name).exists():
            _check_text(path / name)


def _check_text(file: Path) -> None:
    check_regular(file)
    try:
        if file.stat().st_size > _MOST_TEXT:
            raise CheckpointError("checkpoint.unreadable", path=str(file), reason="> 16 MiB")
        file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise unreadable(file, error) from error


def _check(file: Path, given: dict[str, Any], vocabulary: int) -> None:
    template = given.get("chat_template")
    named = isinstance(template, list) and all(
        isinstance(each, dict)
        and isinstance(each.get("name"), str)
        and isinstance(each.get("template"), str)
        for each in template
    )
    if not (template is None or isinstance(template, str) or named):
        raise CheckpointError("checkpoint.bad-json", path=str(file), reason="chat_template")
    ends = given.get(_END)
    for end in ends if isinstance(ends, list) else [] if ends is None else [ends]:
        # To Python, true is a whole number.
        if type(end) is not int or not 0 <= end < vocabulary:
            token = shown(json.dumps(end))
            fault = text("checkpoint.no-token", field=_END, token=token)
            raise CheckpointError("checkpoint.bad-config", path=str(file), fault=fault)


def read_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        CheckpointError: there is no such file, it cannot be read, or is something else.
    """
    check_regular(path)
    try:
        if path.stat().st_size > _MOST_JSON:
            raise CheckpointError("checkpoint.bad-json", path=str(path), reason="> 256 MiB")
        raw = path.read_bytes()
        content = json.loads(raw.decode("utf-8"))  # of bytes, json would guess other encodings
        is_text = b"\\ud" not in raw.lower() or _is_text(content)
    except FileNotFoundError as error:
        raise CheckpointError("checkpoint.no-file", path=str(path)) from error
    except OSError as error:
        raise unreadable(path, error) from error
    except (ValueError, RecursionError) as error:
        reason = text("checkpoint.no-json", line=getattr(error, "lineno", 1))
        raise CheckpointError("checkpoint.bad-json", path=str(path), reason=reason) from error
    if not isinstance(content, dict):
        reason = text("checkpoint.no-object")
        raise CheckpointError("checkpoint.bad-json", path=str(path), reason=reason)
    if not is_text:
        reason = text("checkpoint.surrogate")
        raise CheckpointError("checkpoint.bad-json", path=str(path), reason=reason)
    return content


def _is_text(content: Any) -> bool:
    """Whether no half of a character stands alone in it, which JSON can say and UTF-8 cannot."""
    try:
        json.dumps(content, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def unreadable(path: Path, error: Exception) -> CheckpointError:
    """The error that says so of a file; whatever no system has raised is damage."""
    # Of folders safetensors says "No such device".
    if os.path.isdir(path):  # noqa: PTH112 - which raises nothing
        reason = text("checkpoint.folder")
    elif isinstance(error, OSError):
        reason = shown(error.strerror or str(error))
    else:
        reason = text("checkpoint.damaged")
    return CheckpointError("checkpoint.unreadable", path=str(path), reason=reason)


def shown(given: str) -> str:
    """What is given, without what could steer a terminal."""
    given = given[:300]
    return given if given.isprintable() else ascii(given)
