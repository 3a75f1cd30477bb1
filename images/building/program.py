"""What a board has of Python: this project, what it needs, and llama.cpp."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from importlib.metadata import distribution, metadata, requires, version
from pathlib import Path

from packaging.requirements import Requirement

import edge
from edge.bootstrap import llamacpp
from edge.bootstrap.build import run
from images.building.kept import kept
from images.building.room import STEPS, Room

__all__ = ["engine", "lay_out", "wheels"]

_PYTHON = "3.13"
"""Of Debian trixie."""
_GLIBC = range(17, 42)
"""The C libraries that a wheel may ask for: up to trixie's 2.41."""
_PROJECT = Path(edge.__file__).parents[1]
_OURS = ("edge", "tui", "images")
_NOT_ON_BOARD = frozenset(
    f"{package}/{path}"
    for package, paths in {
        "edge": (
            *("bootstrap", "checkpoint.py", "checkpoint_documents.py"),
            *("commands/stages.py", "commands/words.py", "demonstration.py", "llama_config.py"),
            *("markdown_table.py", "regular_file.py", "speed.py", "tokenizer_file.py"),
            *("torch_start.py", "weights_file.py", "workshop.py"),
        ),
        "images": (
            *("board", "booting", "building", "checking.py"),
            *("commands", "flashing", "publishing", "termux", "unpacking.py"),
            *(f"locale/{name}.toml" for name in ("boot", "build", "catalog", "check", "command")),
            *("locale/flash.toml", "locale/imager.toml"),
        ),
        "tui": ("chat.svg",),
    }.items()
    for path in paths
)
"""What nothing on a board imports: a change of it is no reason to make a system anew."""
_NOT_NEEDED = ("llama-cpp-python", "huggingface-hub")
"""llama.cpp is compiled here, and tokenizers never asks the hub: its files are on the board."""
_NOT_RUN = ("__pycache__", "README.md", "*.po")
_TOLD = ("Summary", "Author-email", "License", "License-Expression", "Project-URL")
"""Of a package, beside its name and version."""


def engine(room: Room, log: Path, title: str) -> Path:
    """The package `llama_cpp` for arm64, compiled here.

    Args:
        title: what is said of it, if it has to be done.

    Raises:
        BuildError: it failed.
    """
    recipe = (STEPS / "engine.sh").read_text(encoding="utf-8")

    def make(folder: Path) -> None:
        llamacpp.sdist(folder, log)
        jobs = str(llamacpp.jobs())
        room.run("engine", "/engine", jobs, binds={"/engine": folder}, log=log, title=title)

    return kept("engine", [llamacpp.VERSION, llamacpp.SDIST_SHA256, recipe], make)


def wheels(log: Path) -> Path:
    """All else that this project needs on a board, in the versions that are installed here.

    Raises:
        BuildError: it failed.
    """
    pinned = sorted(set(_pins("lucie-edge", "board")))
    platforms = [f"--platform=manylinux_2_{n}_aarch64" for n in _GLIBC]

    def make(folder: Path) -> None:
        shutil.rmtree(folder / "site", ignore_errors=True)
        command = [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
            *("--target", str(folder / "site"), "--no-deps", "--no-compile"),
            *("--only-binary=:all:", *platforms, "--platform=manylinux2014_aarch64"),
            *(f"--python-version={_PYTHON}", "--implementation=cp"),
            *(f"--abi=cp{_PYTHON.replace('.', '')}", "--abi=abi3", "--abi=none", *pinned),
        ]
        run(command, log=log)

    return kept("wheels", [_PYTHON, pinned], make) / "site"


def _pins(name: str, extra: str = "") -> Iterator[str]:
    """What a distribution needs on a board, and what these need, as NAME==VERSION."""
    board = {"python_version": _PYTHON, "platform_machine": "aarch64", "extra": extra}
    for line in requires(name) or ():
        needed = Requirement(line)
        if needed.name in _NOT_NEEDED or not (
            needed.marker is None or needed.marker.evaluate(board)
        ):
            continue
        yield f"{needed.name}=={version(needed.name)}"
        yield from _pins(needed.name)


def lay_out(target: Path, engine: Path, wheels: Path) -> None:
    """Put them together in a folder, as a board's `dist-packages`."""
    shutil.copytree(wheels, target, ignore=shutil.ignore_patterns("bin", "tests", "*.pyi"))
    shutil.copytree(engine / "llama_cpp", target / "llama_cpp")
    for name in _OURS:
        shutil.copytree(_PROJECT / name, target / name, ignore=_left_out)
    _describe(target, "llama-cpp-python", llamacpp.VERSION)
    commands = [c for c in distribution("lucie-edge").entry_points if not c.extras]
    groups = {command.group for command in commands}
    listed = [
        line
        for group in sorted(groups)
        for line in (f"[{group}]", *(f"{c.name} = {c.value}" for c in commands if c.group == group))
    ]
    info = _describe(target, "lucie-edge", edge.__version__)
    (info / "entry_points.txt").write_text("\n".join(listed) + "\n", encoding="utf-8")


def _left_out(folder: str, names: list[str]) -> set[str]:
    """For `copytree`: which of these do not go onto a board."""
    here = Path(folder).relative_to(_PROJECT)
    unused = {name for name in names if str(here / name) in _NOT_ON_BOARD}
    return unused | shutil.ignore_patterns(*_NOT_RUN)(folder, names)


def _describe(target: Path, name: str, of: str) -> Path:
    """Say what is there, as an installer would."""
    info = target / f"{name.replace('-', '_')}-{of}.dist-info"
    info.mkdir()
    here = metadata(name)
    more = [f"{field}: {value}\n" for field in _TOLD for value in here.get_all(field) or ()]
    told = f"Metadata-Version: 2.4\nName: {name}\nVersion: {of}\n{''.join(more)}"
    (info / "METADATA").write_text(told, encoding="utf-8")
    return info
