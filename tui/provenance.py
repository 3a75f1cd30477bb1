"""What this device knows of one of its models, for a person to read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge.messages import language
from tui.words import number, say

if TYPE_CHECKING:
    from edge.manifest import DataSource, Manifest

__all__ = ["known_of"]


def known_of(name_or_path: str | None) -> list[tuple[str, str]]:
    """Labels and values from the model's manifest; none for a plain file from elsewhere.

    Args:
        name_or_path: as for `Store.find`.

    Raises:
        ModelError: it has been removed or damaged meanwhile.
    """
    from edge.catalog import catalog
    from edge.store import Store

    model = Store().find(name_or_path)
    manifest = model.manifest
    if manifest is None:
        return []
    facts = _facts(manifest)
    entry = catalog().get(model.name)
    if entry is not None:
        facts.append((say("about.notes"), entry.notes[language()]))
    return facts


def _facts(manifest: Manifest) -> list[tuple[str, str]]:
    facts = [(say("about.licence"), manifest.licence or say("about.not-known"))]
    if manifest.languages:
        facts.append((say("about.languages"), ", ".join(manifest.languages)))
    learned = "\n".join(map(_source, manifest.data)) or say("about.not-known")
    facts.append((say("about.data"), f"{learned}\n{say(f'about.{manifest.provenance}')}"))
    return facts


def _source(source: DataSource) -> str:
    more = [source.licence or say("about.licence-not-known")]
    if source.tokens is not None:
        more.append(say("about.tokens", count=number(source.tokens)))
    if source.first_date or source.last_date:
        more.append(f"{source.first_date or '…'}–{source.last_date or '…'}")
    return f"{source.name} ({', '.join(more)})"
