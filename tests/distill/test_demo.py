"""`make shrink-demo` goes on where it was stopped; a changed one takes no old work for its own."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from distill import demo
from edge.demonstration import Step
from edge.paths import cache_dir


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Where a demonstration with these flags works; its commands are not given."""
    monkeypatch.setenv("LUCIE_HOME", str(tmp_path))
    names: list[str] = []

    def noted(name: str, steps: Sequence[Step]) -> int:
        names.append(name)
        return 0

    monkeypatch.setattr(demo, "demonstrate", noted)

    def begin(*flags: str) -> Path:
        monkeypatch.setattr(sys, "argv", ["demo", *flags])
        assert demo.main() == 0
        return cache_dir() / names[-1]

    return begin


def test_the_same_goes_on_where_it_was(folder: Callable[..., Path]) -> None:
    assert folder() == folder() == folder("--compared")
    assert (folder() / "demo.toml").read_text("utf-8").endswith("last = 0.0\n")


@pytest.mark.parametrize("changed", range(3))
def test_with_other_recipes_or_prompts_it_begins_anew(
    changed: int, folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = folder()
    given = list(demo._GIVEN)
    other = tmp_path / given[changed].name
    other.write_bytes(given[changed].read_bytes() + b"\n")
    given[changed] = other
    monkeypatch.setattr(demo, "_GIVEN", given)
    assert folder() != before


def test_with_another_command_it_begins_anew(
    folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    before, steps = folder(), demo._steps(compared=True)
    monkeypatch.setattr(demo, "_steps", lambda compared: steps[1:])
    assert folder() != before
