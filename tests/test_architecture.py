"""The rules of the house, read off the source: who imports whom, what every module has."""

from __future__ import annotations

import ast
import importlib
import re
import string
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from edge import cli
from edge.commands.paths import AnyPath
from edge.entrypoints import entry_points
from edge.messages import LANGUAGES

ROOT = Path(__file__).parents[1]
MAY_IMPORT = {
    "edge": set(),
    "tui": {"edge"},
    "images": {"edge"},
    "pretrain": {"edge"},
    "quantize": {"edge"},
    "distill": {"pretrain", "quantize", "edge"},
}
TORCH_START = "edge/torch_start.py"
TRAINING = {"torch", "transformers", "optimum", "accelerate", "datasets"}
MOST_LINES = 500

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
MODULES = [path for package in MAY_IMPORT for path in sorted((ROOT / package).rglob("*.py"))]
LOCALES = sorted(ROOT.glob("*/locale/*.toml"))


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def syntax(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def imported(tree: ast.Module) -> Iterator[str]:
    """Top-level names of all that a module imports, also within functions and for types."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield str(node.module).split(".")[0]


def requirement_names() -> set[str]:
    groups = PYPROJECT["project"]["optional-dependencies"].values()
    lines = [*PYPROJECT["project"]["dependencies"], *(line for group in groups for line in group)]
    return {re.split(r"[^\w.-]", line)[0].lower().replace("-", "_") for line in lines}


def test_packages_import_only_what_they_may() -> None:
    wrong = {
        named(path): sorted(ours)
        for path in MODULES
        if (package := path.relative_to(ROOT).parts[0])
        and (ours := set(imported(syntax(path))) & set(MAY_IMPORT))
        and not ours <= MAY_IMPORT[package] | {package}
    }
    assert not wrong


def test_the_runtime_imports_nothing_of_training() -> None:
    runtime = [path for path in MODULES if named(path).startswith(("edge/", "tui/"))]
    assert not [named(path) for path in runtime if set(imported(syntax(path))) & TRAINING]


def test_who_chooses_torchs_threads_makes_its_first_calls() -> None:
    found = {named(path) for path in MODULES if "set_num_threads(" in path.read_text("utf-8")}
    assert found == {TORCH_START}


def test_the_bootstrap_runs_before_anything_is_installed() -> None:
    early = {*sys.stdlib_module_names, "edge"}
    modules = [path for path in MODULES if "bootstrap" in path.parts and path.stem != "start"]
    assert modules
    assert not [named(path) for path in modules if set(imported(syntax(path))) - early]


def test_every_module_has_a_docstring_and_says_what_is_public() -> None:
    def says(tree: ast.Module) -> bool:
        names = [
            ast.unparse(node) for node in tree.body if isinstance(node, (ast.Assign, ast.AnnAssign))
        ]
        return bool(ast.get_docstring(tree)) and any(name.startswith("__all__") for name in names)

    assert not [named(path) for path in MODULES if not says(syntax(path))]


def test_files_are_short() -> None:
    assert not [
        named(path)
        for path in MODULES
        if len(path.read_text(encoding="utf-8").splitlines()) > MOST_LINES
    ]


def test_no_module_is_named_after_a_dependency() -> None:
    ours = {path.stem for path in MODULES} | {path.parent.name for path in MODULES}
    assert not ours & requirement_names()


@pytest.mark.parametrize("path", LOCALES, ids=named)
def test_every_text_is_there_in_every_language(path: Path) -> None:
    def placeholders(text: str) -> set[str]:
        return {str(name) for _, name, _, _ in string.Formatter().parse(text) if name is not None}

    for entry, texts in tomllib.loads(path.read_text(encoding="utf-8")).items():
        assert set(texts) == set(LANGUAGES), entry
        assert len({frozenset(placeholders(text)) for text in texts.values()}) == 1, entry
        assert not re.search(r"\w'\w", texts["fr"]), f"{entry}: the French apostrophe is ’"


def test_every_code_in_the_source_has_a_text() -> None:
    """`text("subject.entry")` and `SomeError("subject.entry")` name an entry that exists."""
    known = {
        f"{path.parts[-3]}:{path.stem}.{entry}"
        for path in LOCALES
        for entry in tomllib.loads(path.read_text(encoding="utf-8"))
    }
    subjects = {name.split(".")[0] for name in known}
    missing = [
        f"{named(path)}: {node.args[0].value}"
        for path in MODULES
        for node in ast.walk(syntax(path))
        if isinstance(node, ast.Call)
        and node.args
        and isinstance(node.args[0], ast.Constant)
        and isinstance(node.args[0].value, str)
        and re.fullmatch(r"[a-z]+\.[a-z0-9-]+", node.args[0].value)
        and isinstance(node.func, ast.Name)
        and (node.func.id == "text" or node.func.id.endswith("Error"))
        and any(f"{p}:{node.args[0].value.split('.')[0]}" in subjects for p in MAY_IMPORT)
        and not any(f"{p}:{node.args[0].value}" in known for p in MAY_IMPORT)
    ]
    assert not missing


@pytest.mark.parametrize("name", PYPROJECT["project"]["entry-points"]["lucie.commands"])
def test_a_command_can_be_imported_and_has_a_line_of_help(name: str) -> None:
    entry = entry_points("lucie.commands")[name]
    command = getattr(importlib.import_module(entry.module), entry.attr)
    assert isinstance(command, click.Command)
    entries = tomllib.loads((ROOT / "edge/locale/cli.toml").read_text(encoding="utf-8"))
    assert name in entries


def parameters(command: click.Command) -> Iterator[click.Parameter]:
    yield from command.params
    for each in command.commands.values() if isinstance(command, click.Group) else ():
        yield from parameters(each)


def test_no_command_takes_an_empty_path_for_the_folder_that_one_is_in() -> None:
    paths = [each.type for each in parameters(cli.group()) if isinstance(each.type, click.Path)]
    assert len(paths) > 30
    assert not [path for path in paths if not (path.exists or isinstance(path, AnyPath))]
    for each in paths:
        with pytest.raises(click.BadParameter):
            each.convert("", None, None)


def test_what_is_installed_are_the_commands_of_pyproject() -> None:
    assert set(entry_points("lucie.commands")) >= set(
        PYPROJECT["project"]["entry-points"]["lucie.commands"]
    ), "pyproject.toml has changed since it was installed: make test"


def fenced(markdown: str) -> Iterator[str]:
    for block in re.findall(r"^```\w*\n(.*?)^```", markdown, re.MULTILINE | re.DOTALL):
        yield from (line.strip().removeprefix("$ ") for line in block.splitlines())


READMES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("*/README.md"))]


@pytest.mark.parametrize("path", READMES, ids=named)
def test_the_commands_that_readers_are_told_exist(path: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    for line in fenced(path.read_text(encoding="utf-8")):
        words = line.split("#")[0].split()
        if words[:1] == ["make"]:
            assert {word for word in words[1:] if re.fullmatch("[a-z-]+", word)} <= targets, line
        elif words[:1] == ["lucie"] and words[1:2] and not words[1].startswith(("-", "#")):
            command = cli.group().commands[words[1]]
            if isinstance(command, click.Group) and words[2:]:
                assert words[2] in command.commands, line
