"""What `lucie models info` knows of one model, as data and as text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edge.catalog import Entry, catalog
from edge.device import detect
from edge.errors import MemoryRefusedError
from edge.header import Header, read_model
from edge.messages import language, text
from edge.plan import plan
from edge.quantity import count_text, size_text

if TYPE_CHECKING:
    from edge.store import Model, Store

__all__ = ["describe", "known"]

_INDENT = 2
_WIDTH = 14


def known(store: Store, name: str) -> dict[str, Any]:
    """All that is known of a model, JSON-able; the keys are those of `--json`.

    Args:
        store: the models here.
        name: a name in it or in the catalog, or a path.

    Raises:
        UnknownModelError: nobody knows it.
        ModelError: it is damaged.
    """
    entry = catalog().get(name)
    if entry is not None and not store.holds(name):
        return _declared(entry)
    model = store.get(name) if store.holds(name) else store.find(name)
    return _found(model, catalog().get(model.name))


def _declared(entry: Entry) -> dict[str, Any]:
    """A model of the catalog that is not here."""
    return {
        "name": entry.name,
        "title": entry.title,
        "here": False,
        "path": None,
        "size": entry.size or entry.about,
        "sha256": entry.sha256,
        "format": "GGUF",
        "parameters": entry.parameters,
        "context": entry.context,
        "memory": entry.memory,
        "memory_context": None,
        "too_large": None,
        "licence": entry.licence,
        "languages": list(entry.languages),
        "provenance": "declared",
        "data": [dict(source) for source in entry.data],
        "sources": list(entry.sources),
        "notes": entry.notes[language()],
    }


def _found(model: Model, entry: Entry | None) -> dict[str, Any]:
    """A model on this device: its manifest knows where it is from, its file what it is."""
    manifest = model.manifest
    facts: dict[str, Any] = {
        "name": model.name,
        "title": entry.title if entry else None,
        "here": True,
        "path": str(model.path),
        "size": None,
        "sha256": None,
        "format": None,
        "parameters": None,
        "context": None,
        "memory": None,
        "memory_context": None,
        "too_large": None,
        "licence": None,
        "languages": [],
        "provenance": "unknown",
        "data": [],
        "sources": [],
        "notes": entry.notes[language()] if entry else None,
    }
    if model.runnable:
        header = read_model(model.path)
        facts |= {
            "title": facts["title"] or header.name or None,
            "size": header.file_size,
            "format": f"{header.format} {header.file_type}, {header.architecture}",
            "parameters": header.n_params,
            "context": header.n_ctx_train,
            **_memory(header),
        }
    if manifest is not None:
        source = manifest.recipe.get("source")
        facts |= {
            "size": sum(file.size for file in manifest.files.values()),
            "format": facts["format"] or manifest.kind,
            "licence": manifest.licence,
            "languages": list(manifest.languages),
            "provenance": manifest.provenance,
            "data": [source.model_dump(exclude_none=True) for source in manifest.data],
            "sources": [source] if isinstance(source, str) and source.isprintable() else [],
        }
        if len(manifest.files) == 1:
            facts["sha256"] = next(iter(manifest.files.values())).sha256
    return facts


def _memory(header: Header) -> dict[str, Any]:
    """Bytes at the peak as it would be loaded on this device, or why it would not."""
    try:
        made = plan(header, detect())
    except MemoryRefusedError as error:
        return {"too_large": str(error)}
    return {"memory": made.needed.total, "memory_context": made.options.n_ctx}


def _memory_line(facts: dict[str, Any]) -> str | None:
    if facts["memory"] is None:
        reason: str | None = facts["too_large"]
        return reason
    size = size_text(facts["memory"])
    if facts["memory_context"] is None:
        return _say("memory-least", size=size)
    return _say("memory-here", size=size, count=count_text(facts["memory_context"]))


def describe(facts: dict[str, Any]) -> str:
    """The facts for a person, one to a line."""
    unknown = _say("unknown")
    count = {key: count_text(facts[key]) if facts[key] else unknown for key in _COUNTS}
    rows = [
        ("title", facts["title"]),
        ("file", facts["path"] or _say("not-here", name=facts["name"])),
        ("size", size_text(facts["size"]) if facts["size"] else unknown),
        ("format", facts["format"]),
        ("parameters", count["parameters"]),
        ("context", _say("tokens", count=count["context"])),
        ("memory", _memory_line(facts)),
        ("licence", facts["licence"] or unknown),
        ("languages", ", ".join(facts["languages"]) or unknown),
        ("source", "\n".join(facts["sources"]) or None),
        ("sha256", facts["sha256"] or (None if facts["here"] else _say("hash-at-download"))),
        ("data", "\n".join(map(_data_line, facts["data"])) or unknown),
        ("provenance", _say(f"provenance-{facts['provenance']}")),
        ("notes", facts["notes"]),
    ]
    lines = [facts["name"]]
    for key, value in rows:
        for number, line in enumerate(str(value).splitlines() if value else []):
            label = _say(f"label-{key}") if number == 0 else ""
            lines.append(f"{'':{_INDENT}}{label:<{_WIDTH}}{line}")
    return "\n".join(lines)


_COUNTS = ("parameters", "context")


def _data_line(source: dict[str, Any]) -> str:
    details = [source.get("licence") or _say("licence-unknown")]
    if tokens := source.get("tokens"):
        details.append(_say("tokens", count=count_text(tokens)))
    if source.get("first_date") or source.get("last_date"):
        details.append(f"{source.get('first_date', '…')}–{source.get('last_date', '…')}")
    where = f" {source['url']}" if source.get("url") else ""
    return f"{source['name']} ({', '.join(details)}){where}"


def _say(entry: str, /, **facts: Any) -> str:
    return text(f"model.{entry}", **facts)
