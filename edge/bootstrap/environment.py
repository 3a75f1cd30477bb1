"""The project's virtual environment: `.venv`, made once, brought up to date when need be.

A stamp in it says what was installed, from which `pyproject.toml`, by which Python
and for which CPU. As long as that holds, starting again costs one file read.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

from edge.bootstrap import llamacpp
from edge.bootstrap.build import run
from edge.errors import LucieError

__all__ = ["prepare"]


def prepare(project: Path, extras: Collection[str] = ()) -> Path:
    """Make `.venv` in `project` hold the project, its dependencies and `extras`.

    Args:
        project: the folder of `pyproject.toml`; two processes take turns in it.
        extras: optional dependencies of the project. Those installed before stay.

    Returns:
        The environment's Python.

    Raises:
        LucieError: something that the system should have is missing.
        BuildError: building or installing failed.
    """
    venv = project / ".venv"
    program = venv / "bin" / "python"
    stamp = venv / "lucie.json"
    with llamacpp.locked(project):
        before = _read(stamp)
        extras = sorted({*extras, *before.get("extras", [])})
        now = {**_facts(project), "extras": extras}
        if before == now:
            return program
        # Without its stamp an environment is half made, or not ours: it is made anew.
        stamp.unlink(missing_ok=True)
        if any(before.get(fact) != now[fact] for fact in ("python", "place")):
            _create(venv)
        log = venv / "install.log"
        log.unlink(missing_ok=True)
        pip = [str(program), "-m", "pip", "--disable-pip-version-check", "install"]
        wheel = llamacpp.wheel()
        # Forced, because the same version for another CPU is another wheel.
        run([*pip, "--force-reinstall", "--no-deps", str(wheel)], log=log)
        target = f"{project}[{','.join(extras)}]" if extras else str(project)
        run([*pip, "--editable", target], log=log, title="installing")
        draft = stamp.with_suffix(".tmp")
        draft.write_text(json.dumps(now), encoding="utf-8")
        draft.replace(stamp)
        return program


def _read(stamp: Path) -> dict[str, Any]:
    try:
        facts = json.loads(stamp.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}


def _facts(project: Path) -> dict[str, Any]:
    return {
        "pyproject": hashlib.sha256((project / "pyproject.toml").read_bytes()).hexdigest(),
        "place": str(project),  # scripts in .venv/bin name their Python by its full path
        "python": f"{sys.executable} {sys.version}",
        "wheel": os.environ.get("LUCIE_WHEEL") or llamacpp.key(),
    }


def _create(venv: Path) -> None:
    # Debian keeps ensurepip in a package of its own; without it venv fails half-way.
    if importlib.util.find_spec("ensurepip") is None:
        raise LucieError("bootstrap.no-venv")
    log = llamacpp.cache_dir() / "build" / "venv.log"
    run([sys.executable, "-m", "venv", "--clear", str(venv)], log=log, title="creating")
