"""What a chat stage can be taken up from, as far as it is known without torch."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError, safe_open

__all__ = ["FILE", "STEP", "saved_step"]

FILE = "training.safetensors"
"""Among the checkpoints of its run."""
STEP = "step"
"""The fact that says how many steps are done."""


def saved_step(checkpoints: Path) -> int:
    """Steps that are done; 0, too, where it is damaged, as who takes it up will tell."""
    try:
        with safe_open(checkpoints / FILE, framework="np") as file:
            return int((file.metadata() or {})[STEP])
    except (SafetensorError, OSError, KeyError, ValueError):
        return 0
