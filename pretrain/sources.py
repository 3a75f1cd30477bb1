"""The bodies of text that something learned from: as published, and each told once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from edge.manifest import DataSource, Manifest, all_of

__all__ = ["TITLES", "each_once", "published"]

TITLES = "titles"
"""Of a corpus' recipe: how sources are called where they are published, by the names that its
documents and recipes have for them."""


def published(corpus: Manifest | None) -> Mapping[str, DataSource]:
    """What a corpus tells of its sources, by the names that its documents have for them.

    Args:
        corpus: its manifest; None: of what is no bundle, and tells nothing.
    """
    if corpus is None:
        return {}
    told = {source.name: source for source in corpus.data}
    titles = corpus.recipe.get(TITLES)
    named = titles.items() if isinstance(titles, dict) else ()
    known = {name: told[title] for name, title in named if isinstance(title, str) and title in told}
    return told | known


def each_once(
    sources: Iterable[DataSource], size: Callable[[list[int]], int]
) -> tuple[DataSource, ...]:
    """Each source once, by its name and address; what several say of it is put together.

    Args:
        sources: of several texts, or of several trainings.
        size: from their sizes to that of the whole: `sum` where each is another part of a source,
            `max` where it may be the same text again.
    """
    found: dict[tuple[str, str | None], list[DataSource]] = {}
    for source in sources:
        found.setdefault((source.name, source.url), []).append(source)
    return tuple(_together(several, size) for several in found.values())


def _together(several: list[DataSource], size: Callable[[list[int]], int]) -> DataSource:
    tokens = [each.tokens for each in several if each.tokens is not None]
    sizes = [each.size for each in several if each.size is not None]
    return several[0].model_copy(
        update={
            "licence": all_of(each.licence for each in several),
            "tokens": sum(tokens) if tokens else None,
            "size": size(sizes) if sizes else None,
            "first_date": min((d for each in several if (d := each.first_date)), default=None),
            "last_date": max((d for each in several if (d := each.last_date)), default=None),
        }
    )
