"""A command of ours for root: sudo does not look for programs where pip puts them."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

__all__ = ["as_root"]


def as_root(*words: str) -> str:
    """What has sudo run `lucie` with these words, to be typed as it is."""
    return shlex.join(["sudo", str(Path(sys.argv[0]).absolute()), *words])
