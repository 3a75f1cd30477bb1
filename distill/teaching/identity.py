"""How a model and its tokenizer are known."""

from __future__ import annotations

import hashlib
from pathlib import Path

from edge.bundle import Bundle
from edge.checkpoint import Checkpoint
from edge.errors import CheckpointError
from edge.manifest import MANIFEST
from edge.progress import Count, Progress
from edge.regular_file import check_regular

__all__ = ["model_sha256", "tokenizer_sha256"]

_BLOCK = 1 << 20


def model_sha256(checkpoint: Checkpoint, progress: Progress | None = None) -> str:
    """SHA-256 of the names and hashes of config and weights.

    The same of a plain folder and of a bundle, whose manifest has the hashes already.

    Args:
        checkpoint: the model.
        progress: called with bytes read, where they have to be.

    Raises:
        LucieError: the bundle's manifest contradicts its folder.
    """
    path = checkpoint.path
    known = {}
    if (path / MANIFEST).exists():
        files = Bundle.open(path, verify=False).manifest.files
        known = {name: file.sha256 for name, file in files.items()}
    wanted = [path / "config.json", *sorted({at.file for at in checkpoint.tensors.values()})]
    count = Count(sum(f.stat().st_size for f in wanted if f.name not in known), progress)
    total = hashlib.sha256()
    for file in wanted:
        digest = known.get(file.name) or _sha256(file, count)
        total.update(f"{file.name} {digest}\n".encode())
    return total.hexdigest()


def tokenizer_sha256(path: Path) -> str:
    """SHA-256 of `tokenizer.json`, in a folder or itself.

    Raises:
        CheckpointError: it is not there, or is no file.
    """
    file = path / "tokenizer.json" if path.is_dir() else path
    check_regular(file)
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except FileNotFoundError as error:
        raise CheckpointError("checkpoint.no-file", path=str(file)) from error


def _sha256(file: Path, count: Count) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as reader:
        while block := reader.read(_BLOCK):
            digest.update(block)
            count.add(len(block))
    return digest.hexdigest()
