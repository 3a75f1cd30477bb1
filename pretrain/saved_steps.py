"""Of which steps a training has checkpoints, by the names of their folders."""

from __future__ import annotations

from pathlib import Path

__all__ = ["saved_steps", "step_folder"]

_NAME = "step-"


def step_folder(checkpoints: Path, step: int) -> Path:
    """The folder of a step."""
    return checkpoints / f"{_NAME}{step:08d}"


def saved_steps(checkpoints: Path) -> list[tuple[int, Path]]:
    """The steps, and their folders, in order."""
    paths = checkpoints.glob(f"{_NAME}*") if checkpoints.is_dir() else ()
    numbered = ((path.name.removeprefix(_NAME), path) for path in paths)
    return sorted((int(n), path) for n, path in numbered if n.isascii() and n.isdecimal())
