"""The trained model as a bundle: Hugging Face's layout, with all that it was made of."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from edge.bundle import Bundle
from edge.manifest import MANIFEST, DataSource, Manifest, Parent, Provenance, least_known
from edge.progress import Progress
from edge.workshop import software
from pretrain.origin import ORIGIN, Origin
from pretrain.recipe import Recipe
from pretrain.sources import each_once

__all__ = [
    "BESIDE",
    "lay_beside",
    "lay_licence",
    "manifest_of",
    "parents",
    "provenance",
    "publish",
    "recorded",
]

_TEXT = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "tokenizer.model", "vocab.json", "merges.txt", "chat_template.jinja", "generation_config.json",
)  # fmt: skip
_LICENCE = ("LICENSE", "LICENSE.md", "LICENSE.txt", "NOTICE", "NOTICE.md", "NOTICE.txt")
BESIDE = _TEXT + _LICENCE
"""What goes along unchanged with a model that is made of another; README.md would describe that
other one."""
_PACKAGES = ("torch", "transformers", "tokenizers", "safetensors", "numpy")


def manifest_of(folder: Path) -> Manifest | None:
    """The manifest of a model, if it is a bundle's."""
    return Bundle.open(folder, verify=False).manifest if (folder / MANIFEST).is_file() else None


def parents(paths: Iterable[Path]) -> tuple[Parent, ...]:
    """The bundles among some folders, each once."""
    found: dict[str, Parent] = {}
    for path in paths:
        if (path / MANIFEST).is_file():
            bundle = Bundle.open(path, verify=False)
            found[bundle.sha256] = Parent(name=bundle.manifest.name, sha256=bundle.sha256)
    return tuple(found.values())


def provenance(paths: Iterable[Path]) -> Provenance:
    """How well it is known where a model is from that is made of these."""
    known = (manifest_of(path) for path in paths)
    return least_known(each.provenance if each else None for each in known)


def publish(
    out: Path,
    folder: Path,
    recipe: Recipe,
    *,
    step: str,
    origin: Origin,
    data: tuple[DataSource, ...],
    languages: tuple[str, ...],
    made_of: Sequence[Path],
    known: Manifest | None,
    metrics: Mapping[str, float],
    progress: Progress,
) -> Bundle:
    """Make the bundle `out` of weights that have been written.

    Args:
        out: the folder to make.
        folder: with weights and config; they are moved away.
        recipe: what made them.
        step: what kind of work it was.
        origin: identities of what it was made of.
        data: what was read.
        languages: in which.
        made_of: what it was made from: the model it began with, texts, a teacher.
        known: of the model that it began with.
        metrics: what was measured.
        progress: called while hashing.
    """
    lay_beside(recipe.tokenizer_path, folder)
    if recipe.model.start:
        lay_licence(Path(recipe.model.start), folder)
    manifest = Manifest(
        kind="model",
        name=out.name,
        parents=parents(made_of),
        recipe={"step": step, **recorded(recipe), ORIGIN: origin.model_dump()},
        software=software(*_PACKAGES),
        licence=known.licence if known else None,
        languages=languages or (known.languages if known else ()),
        provenance=provenance(made_of),
        data=each_once((*(known.data if known else ()), *data), max),
        metrics=dict(metrics),
    )
    files = {file.name: file for file in folder.iterdir()}
    return Bundle.write(out, manifest, files, move=True, progress=progress)


def lay_beside(source: Path, folder: Path) -> None:
    """Copy tokenizer, chat template and how to generate to the weights in `folder`.

    Args:
        source: the folder that has them, or the `tokenizer.json` alone.
        folder: where they go.
    """
    for name in _TEXT if source.is_dir() else ():
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / name)
    if source.is_file():
        shutil.copyfile(source, folder / "tokenizer.json")


def lay_licence(source: Path, folder: Path) -> None:
    """Copy the licence of the model in `source`, and its notice, to what is made of its weights.

    Licences ask for it (Apache-2.0, section 4). That of a tokenizer alone is not one of weights.
    """
    for name in _LICENCE:
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / name)


def recorded(recipe: Recipe) -> dict[str, Any]:
    """The recipe as a manifest holds it: without the folders of this computer."""
    fields: dict[str, Any] = recipe.model_dump(mode="json", by_alias=True, exclude_none=True)
    for part in (*fields["data"]["mixture"], *fields.get("importance", {}).get("texts", ())):
        part["path"] = _name(part["path"])
    fields["data"]["evaluation"] = [_name(path) for path in fields["data"]["evaluation"]]
    named = (("model", "from"), ("model", "like"), ("model", "tokenizer"),
             ("teacher", "model"), ("teacher", "cache"))  # fmt: skip
    for table, field in named:
        if field in fields.get(table, {}):
            fields[table][field] = _name(fields[table][field])
    return fields


def _name(path: str) -> str:
    """Also of `.`, the folder that one is in."""
    return Path(path).resolve().name
