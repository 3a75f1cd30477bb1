"""What is exported: a model folder of Hugging Face's layout, plain or as a bundle."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edge.bundle import Bundle
from edge.checkpoint import Checkpoint
from edge.errors import CheckpointError
from edge.manifest import MANIFEST, Manifest, Parent
from edge.progress import Progress

__all__ = ["Source", "open_source"]


@dataclass(frozen=True, slots=True)
class Source:
    """A checkpoint and what is known of it."""

    checkpoint: Checkpoint
    bundle: Bundle | None
    """None: a plain folder, of which nothing is known."""

    @property
    def known(self) -> Manifest | None:
        """What is said of it; None: nothing."""
        return self.bundle.manifest if self.bundle is not None else None

    def inherit(self, manifest: Manifest) -> Manifest:
        """`manifest` with licence, languages and training data carried down from here."""
        if self.bundle is None:
            return manifest
        known = self.bundle.manifest
        return manifest.model_copy(
            update={
                "parents": (Parent(name=known.name, sha256=self.bundle.sha256),),
                "licence": known.licence,
                "languages": known.languages,
                "provenance": known.provenance,
                "data": known.data,
            }
        )


def open_source(path: Path, progress: Progress | None = None) -> Source:
    """The model folder at `path`; of a bundle every byte is compared with its manifest.

    Raises:
        ModelError: it is no model folder, or is damaged.
    """
    if not path.is_dir():
        raise CheckpointError("checkpoint.no-folder", path=str(path))
    if not (path / MANIFEST).exists():
        return Source(Checkpoint.open(path), None)
    bundle = Bundle.open(path, verify=True, progress=progress)
    if bundle.manifest.kind != "model":
        raise CheckpointError("checkpoint.kind", path=str(path), kind=bundle.manifest.kind)
    return Source(Checkpoint.open(path), bundle)
