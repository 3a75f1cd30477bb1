"""What is known of a model, as a person reads it: who made it, from what, under which licence.

The terminal and the web page show the same lines, each in the language of its reader.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge.catalog import catalog
from edge.messages import text

if TYPE_CHECKING:
    from edge.client import ModelInfo
    from edge.manifest import DataSource, Manifest
    from edge.store import Model

__all__ = ["Fact", "known_of", "server_facts"]

Fact = tuple[str, str]
"""A label and what stands beside it; the label may be empty."""


def server_facts(info: ModelInfo, lang: str) -> list[Fact]:
    """What the server that runs the model says of it."""
    facts = [(text("about.name", lang=lang), info.name)]
    if info.n_params is not None:
        parameters = text("about.count", lang=lang, count=info.n_params)
        facts.append((text("about.parameters", lang=lang), parameters))
    if info.n_ctx is not None:
        window = text("about.tokens", lang=lang, count=info.n_ctx)
        facts.append((text("about.window", lang=lang), window))
    if info.memory_bytes is not None:
        memory = text("about.mebibytes", lang=lang, size=round(info.memory_bytes / 2**20))
        facts.append((text("about.memory", lang=lang), memory))
    return facts


def known_of(model: Model, lang: str) -> list[Fact]:
    """What its manifest and the catalog say; none for a plain file from elsewhere.

    Raises:
        ModelError: it has been removed or damaged meanwhile.
    """
    manifest = model.manifest
    if manifest is None:
        return []
    facts = _facts(manifest, lang)
    entry = catalog().get(model.name)
    if entry is not None:
        facts.append((text("about.notes", lang=lang), entry.notes[lang]))
    return facts


def _facts(manifest: Manifest, lang: str) -> list[Fact]:
    unknown = text("about.not-known", lang=lang)
    facts = [(text("about.licence", lang=lang), manifest.licence or unknown)]
    if manifest.languages:
        facts.append((text("about.languages", lang=lang), ", ".join(manifest.languages)))
    learned = "\n".join(_source(source, lang) for source in manifest.data) or unknown
    trust = text(f"about.{manifest.provenance}", lang=lang)
    facts.append((text("about.data", lang=lang), f"{learned}\n{trust}"))
    return facts


def _source(source: DataSource, lang: str) -> str:
    more = [source.licence or text("about.licence-not-known", lang=lang)]
    if source.tokens is not None:
        more.append(text("about.tokens", lang=lang, count=source.tokens))
    if source.first_date or source.last_date:
        more.append(f"{source.first_date or '…'}–{source.last_date or '…'}")
    return f"{source.name} ({', '.join(more)})"
