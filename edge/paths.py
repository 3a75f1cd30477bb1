"""Where things live on this device, by the XDG rules; `LUCIE_HOME` puts all in one folder."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import platformdirs

__all__ = ["cache_dir", "data_dir", "runtime_dir"]

_APP = "lucie-edge"


def _dir(kind: str, default: Callable[[], str]) -> Path:
    home = os.environ.get("LUCIE_HOME")
    return Path(home) / kind if home else Path(default())


def data_dir() -> Path:
    """Models and conversations: what must not be lost."""
    return _dir("data", lambda: platformdirs.user_data_dir(_APP))


def cache_dir() -> Path:
    """KV states, builds of the engine: what can be made again."""
    return _dir("cache", lambda: platformdirs.user_cache_dir(_APP))


def runtime_dir() -> Path:
    """Sockets, locks and logs; made private to the user, as sockets there are trusted."""
    path = _dir("run", _runtime)
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


def _runtime() -> str:
    """The session's folder, or one of our own where there is no session, as under cron."""
    if base := os.environ.get("XDG_RUNTIME_DIR"):
        return f"{base}/{_APP}"
    # Android has no /tmp: Termux has one of its own.
    base = os.environ.get("TMPDIR") if sys.platform == "android" else None
    return f"{base or '/tmp'}/{_APP}-{os.getuid()}"  # noqa: S108 - whoever trusts it checks its owner
