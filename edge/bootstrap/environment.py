"""The project's virtual environment: `.venv`, made once, brought up to date when need be.

A stamp in it says what was installed, from which `pyproject.toml`, by which Python
and for which CPU. As long as that holds, starting again costs one file read. What
works is given up only for what is complete: an update may find no network.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from edge.bootstrap import llamacpp
from edge.bootstrap.build import run
from edge.errors import LucieError
from edge.messages import text

__all__ = ["prepare"]

# Where one of these changes, an environment is made anew.
_LASTING = ("python", "place")
_OF_THE_SYSTEM = ("numpy", "pydantic-core")
"""On Android nobody builds these for pip, but Termux does for its own packages."""


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
        _recover(venv)
        before = _read(stamp)
        extras = sorted({*extras, *before.get("extras", [])})
        now = {**_facts(project), "extras": extras}
        if before == now:
            return program
        anew = any(before.get(fact) != now[fact] for fact in _LASTING)
        with _replaced(venv) if anew else nullcontext():
            if not anew:  # until all is installed, the stamp fits no project
                _write(stamp, {fact: now[fact] for fact in (*_LASTING, "extras")})
            _install(program, project, extras)
            _write(stamp, now)
        return program


def _install(program: Path, project: Path, extras: Collection[str]) -> None:
    log = llamacpp.cache_dir() / "build" / "install.log"
    log.unlink(missing_ok=True)
    pip = [str(program), "-m", "pip", "--disable-pip-version-check", "install"]
    if sys.platform == "android":
        pip += ["--only-binary", ",".join(_OF_THE_SYSTEM)]
    wheel = llamacpp.wheel()
    # Forced, because the same version for another CPU is another wheel.
    run([*pip, "--force-reinstall", "--no-deps", str(wheel)], log=log)
    target = f"{project}[{','.join(extras)}]" if extras else str(project)
    run([*pip, "--editable", target], log=log, title=text("bootstrap.installing"))


@contextmanager
def _replaced(venv: Path) -> Iterator[None]:
    """A new environment; the one before is back if it cannot be completed, as without network."""
    if _complete(venv):
        venv.rename(_aside(venv))
    try:
        _create(venv)
        yield
    finally:
        _recover(venv)


def _recover(venv: Path) -> None:
    """Of an environment and the one before it, keep the one that is complete."""
    aside = _aside(venv)
    if aside.exists():
        if _complete(venv):
            shutil.rmtree(aside)
        else:
            shutil.rmtree(venv, ignore_errors=True)
            aside.rename(venv)


def _aside(venv: Path) -> Path:
    return venv.with_name(f"{venv.name}.before")


def _complete(venv: Path) -> bool:
    return "pyproject" in _read(venv / "lucie.json")


def _read(stamp: Path) -> dict[str, Any]:
    try:
        facts = json.loads(stamp.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}


def _write(stamp: Path, facts: Mapping[str, Any]) -> None:
    draft = stamp.with_suffix(".tmp")
    draft.write_text(json.dumps(facts), encoding="utf-8")
    draft.replace(stamp)


def _facts(project: Path) -> dict[str, Any]:
    # Of an environment that is activated, as ours may be, the Python that it was made by.
    base = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
    return {
        "pyproject": hashlib.sha256((project / "pyproject.toml").read_bytes()).hexdigest(),
        "place": str(project),  # scripts in .venv/bin name their Python by its full path
        "python": f"{base} {sys.version_info.major}.{sys.version_info.minor}",
        "wheel": os.environ.get("LUCIE_WHEEL") or llamacpp.key(),
    }


def _create(venv: Path) -> None:
    # Debian keeps ensurepip in a package of its own; without it venv fails half-way.
    if importlib.util.find_spec("ensurepip") is None:
        raise LucieError("bootstrap.no-venv")
    log = llamacpp.cache_dir() / "build" / "venv.log"
    of_system = ["--system-site-packages"] if sys.platform == "android" else []
    run(
        [sys.executable, "-m", "venv", "--clear", *of_system, str(venv)],
        log=log,
        title=text("bootstrap.creating"),
    )
