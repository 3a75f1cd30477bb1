"""Where things live on this device, by the XDG rules; `LUCIE_HOME` puts all in one folder."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

__all__ = ["cache_dir", "data_dir", "runtime_dir"]

_APP = "lucie-edge"


def _dir(kind: str, default: str) -> Path:
    home = os.environ.get("LUCIE_HOME")
    return Path(home) / kind if home else Path(default)


def data_dir() -> Path:
    """Models and conversations: what must not be lost."""
    return _dir("data", platformdirs.user_data_dir(_APP))


def cache_dir() -> Path:
    """KV states, builds of the engine: what can be made again."""
    return _dir("cache", platformdirs.user_cache_dir(_APP))


def runtime_dir() -> Path:
    """Sockets and locks; made private to the user, as sockets there are trusted."""
    path = _dir("run", platformdirs.user_runtime_dir(_APP))
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path
