"""What a GGUF file says of a model in general: name, licence, languages, data (`general.*`)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import gguf
import yaml

from edge.checkpoint import Checkpoint
from edge.errors import CheckpointError
from edge.manifest import DataSource, Manifest
from edge.messages import text

__all__ = ["add_general"]

for _name in ("gguf", "metadata"):  # its doubts about documents are for logs, not for people
    logging.getLogger(_name).addHandler(logging.NullHandler())


def add_general(writer: gguf.GGUFWriter, checkpoint: Checkpoint, known: Manifest | None) -> None:
    """Add the fields; the tensors are there already, for their number of parameters is one.

    Args:
        writer: of the file.
        checkpoint: the model.
        known: what the bundle says that the model is from.

    Raises:
        CheckpointError: a document of the folder is damaged.
    """
    total, shared, expert, experts = writer.get_total_parameter_count()
    metadata = _metadata(checkpoint.path, total)
    metadata.name = metadata.name or checkpoint.path.name
    if metadata.size_label is None:
        metadata.size_label = gguf.size_label(total, shared, expert, experts)
    if known is not None:
        metadata.license = known.licence or metadata.license
        metadata.languages = list(known.languages) or metadata.languages
        metadata.datasets = [_dataset(each) for each in known.data] or metadata.datasets
    writer.add_type(gguf.GGUFType.MODEL)
    metadata.set_gguf_meta_model(writer)


def _metadata(folder: Path, parameters: int) -> gguf.Metadata:
    """What the folder says of its model, in the front matter of its README, too."""
    try:
        metadata = gguf.Metadata.load(None, folder, None, parameters)
    except yaml.YAMLError as error:
        reason = text("checkpoint.no-yaml")
        raise CheckpointError(
            "checkpoint.bad-json", path=str(folder / "README.md"), reason=reason
        ) from error
    for field in fields(metadata):
        value, kind = getattr(metadata, field.name), str(field.type)
        if value is None:
            continue
        if kind in _TEXTS:
            setattr(metadata, field.name, _TEXTS[kind](value))
        elif isinstance(value, bool) or not isinstance(value, _NUMBERS[kind]):
            path, key = folder / "generation_config.json", field.name.removeprefix("sampling_")
            raise CheckpointError("checkpoint.bad-json", path=str(path), reason=f"{key} = {value}")
    return metadata


def _dataset(data: DataSource) -> dict[str, str]:
    facts = {"name": data.name, "description": data.licence, "url": data.url}
    return {key: value for key, value in facts.items() if value is not None}


def _word(value: object) -> str:
    """YAML takes a version for a number, and Norwegian (`no`) for false."""
    return "no" if value is False else str(value)


def _words(values: list[object]) -> list[str]:
    return [_word(each) for each in values]


def _line(value: object) -> str:
    return ",".join(_words(value)) if isinstance(value, list) else _word(value)


def _facts(tables: list[dict[str, object]]) -> list[dict[str, str]]:
    return [{key: _word(value) for key, value in table.items()} for table in tables]


_TEXTS: dict[str, Callable[[Any], Any]] = {
    "Optional[str]": _line,
    "Optional[list[str]]": _words,
    "Optional[list[dict]]": _facts,
}
_NUMBERS = {"Optional[int]": int, "Optional[float]": int | float}
"""What stands in the fields that gguf reads in a folder, by how it spells their types."""
