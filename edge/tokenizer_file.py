"""The tokenizer of a model folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edge.errors import CheckpointError
from edge.regular_file import check_regular
from edge.tokenizer_json import parse

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["open_tokenizer", "table_rows"]

_FILE = "tokenizer.json"


def open_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer of a folder, or in a file.

    Raises:
        CheckpointError: there is none, or it is damaged.
        EngineError: the tokenizers library is not here.
    """
    file = path / _FILE if path.is_dir() else path
    check_regular(file)
    if not file.is_file():
        raise CheckpointError("checkpoint.no-file", path=str(file))
    try:
        return parse(file.read_bytes())
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise CheckpointError("checkpoint.bad-json", path=str(file), reason=reason) from error


def table_rows(tokenizer: Tokenizer) -> int:
    """How many rows a table of its tokens has: ids may leave gaps, so it is not their count."""
    return max(tokenizer.get_vocab(with_added_tokens=True).values(), default=-1) + 1
