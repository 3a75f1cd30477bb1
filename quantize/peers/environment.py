"""A virtual environment for a program that cannot share ours, made when it is first asked for.

It lies in the user's cache, in a folder named after its pins: other pins, another folder.
The stamp is written last, so what a pulled plug leaves is begun anew.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import sys
import venv
from collections.abc import Sequence
from pathlib import Path

from edge.bootstrap.build import run
from edge.paths import cache_dir

__all__ = ["prepared"]

_STAMP = "complete"


def prepared(name: str, pins: Sequence[str], title: str) -> Path:
    """The folder of an environment's programs, which is made where it is not there.

    Args:
        name: of the environment.
        pins: what is installed, each with its version.
        title: says what is being done.

    Raises:
        BuildError: it cannot be installed; the reason has been shown.
    """
    key = hashlib.sha256("\n".join([sys.version, *pins]).encode()).hexdigest()[:16]
    folder = cache_dir() / "environments" / f"{name}-{key}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f".{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two exports at once: one installs
        if not (folder / _STAMP).exists():
            shutil.rmtree(folder, ignore_errors=True)
            venv.create(folder, with_pip=True)
            _install(folder, pins, title)
            (folder / _STAMP).touch()
    return folder / "bin"


def _install(folder: Path, pins: Sequence[str], title: str) -> None:
    python = str(folder / "bin" / "python")
    command = [python, "-m", "pip", "install", "--progress-bar=off", *pins]
    try:
        run(command, log=folder.with_suffix(".log"), title=title)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
