"""What an image is made of: Debian's packages, Python's, llama.cpp, this project and the model."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from packageurl import PackageURL

from edge import __version__
from edge.bootstrap import llamacpp
from edge.bundle import Bundle
from edge.errors import UsageError
from edge.manifest import DataSource
from edge.sources import HubSource, IndexSource, parse
from images.publishing.component import Component
from images.publishing.distributions import distributions
from images.publishing.licences import Licence, listed, unlisted

__all__ = ["inventory", "of_model", "system"]

_LLAMA_CPP = Component(
    kind="library",
    name="llama.cpp",
    version=llamacpp.LLAMA_CPP_COMMIT,
    licence=Licence(("MIT",)),
    purl=PackageURL("github", "ggml-org", "llama.cpp", llamacpp.LLAMA_CPP_COMMIT),
    supplier="The ggml authors",
    summary="Inference of language models in C/C++",
    homepage="https://github.com/ggml-org/llama.cpp",
)
"""As its LICENSE has it, in the source of llama-cpp-python."""


def inventory(
    name: str, sha256: str, debian: Sequence[Component], site: Path, model: Bundle
) -> Component:
    """The image as a component, with all that is in it.

    Args:
        name: of the image.
        sha256: of what is written on a card.
        debian: packages of which something is in it.
        site: the folder of what a board has of Python.
        model: on the card.
    """
    return system(name, sha256, (*debian, *map(_with_engine, distributions(site)), of_model(model)))


def system(name: str, sha256: str, parts: tuple[Component, ...]) -> Component:
    """The image as a component.

    Args:
        name: of the image.
        sha256: of what is written on a card.
        parts: what is in it.
    """
    return Component(
        kind="image",
        name=name,
        version=__version__,
        sha256=sha256,
        summary="System of a card that starts into a chat",
        parts=parts,
    )


def _with_engine(library: Component) -> Component:
    """The library; the bindings of llama.cpp with what they were compiled from."""
    if library.name != "llama-cpp-python":
        return library
    return replace(library, sha256=llamacpp.SDIST_SHA256, parts=(_LLAMA_CPP,))


def of_model(bundle: Bundle) -> Component:
    """A model as a component, with its files and what it learned from."""
    told = bundle.manifest
    return Component(
        kind="model",
        name=told.name,
        licence=_licence(told.licence),
        purl=_purl(told.recipe.get("source")),
        summary=f"Language model ({', '.join(told.languages)})" if told.languages else "",
        parts=tuple(
            Component(kind="file", name=name, sha256=file.sha256, licence=_licence(told.licence))
            for name, file in sorted(told.files.items())
        ),
        learned_from=tuple({each.name: _data(each) for each in told.data}.values()),
    )


def _data(source: DataSource) -> Component:
    return Component(
        kind="data",
        name=source.name,
        licence=_licence(source.licence),
        homepage=source.url or "",
    )


def _licence(told: str | None) -> Licence | None:
    """Of a manifest, which may hold any text."""
    if told is None:
        return None
    expression = listed(told)
    return Licence((expression,)) if expression else unlisted(told, told)


def _purl(source: object) -> PackageURL | None:
    """Where a bundle's file was taken from, if that is a public place."""
    if not isinstance(source, str):
        return None
    try:
        place = parse(source)
    except UsageError:
        return None
    if isinstance(place, HubSource):
        owner, _, name = place.repo.partition("/")
        revision = place.revision if re.fullmatch(r"[0-9a-f]{40}", place.revision) else None
        return PackageURL("huggingface", owner, name, revision, None, place.path)
    if isinstance(place, IndexSource):
        name, _, version = place.requirement.partition("==")
        return PackageURL("pypi", None, name, version, None, place.path)
    return None
