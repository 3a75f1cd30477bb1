"""`edge.entrypoints` finds what `importlib.metadata` finds."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import pytest

from edge.entrypoints import entry_points


@pytest.mark.parametrize("group", ["lucie.commands", "console_scripts", "pytest11"])
def test_finds_what_the_standard_library_finds(group: str) -> None:
    expected = {
        entry.name: (entry.module, entry.attr)
        for entry in importlib.metadata.entry_points(group=group)
        if entry.attr
    }
    found = entry_points(group)
    assert {name: (entry.module, entry.attr) for name, entry in found.items()} == expected
    assert list(found) == sorted(found)


def distribution(folder: Path, name: str, text: str) -> None:
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "entry_points.txt").write_text(text, encoding="utf-8")


def test_reads_extras_comments_and_only_its_own_section(tmp_path: Path) -> None:
    distribution(
        tmp_path,
        "one",
        "[other]\nno = a:b\n\n[group]\n# said\nplain=pkg.mod:main\n"
        "train = pkg.train : command.run [train]\nmodule-only = pkg\n[more]\nneither = a:b\n",
    )
    found = entry_points("group", [str(tmp_path)])
    assert list(found) == ["plain", "train"]
    assert (found["train"].module, found["train"].attr) == ("pkg.train", "command.run")
    assert found["train"].extra == "train"
    assert found["plain"].extra is None


def test_the_first_on_the_path_wins_and_what_is_not_there_is_passed_over(tmp_path: Path) -> None:
    distribution(tmp_path / "a", "one", "[group]\nname = first:x\n")
    distribution(tmp_path / "b", "two", "[group]\nname = second:x\n")
    (tmp_path / "c.zip").touch()
    path = [str(tmp_path / part) for part in ("gone", "c.zip", "a", "b")]
    assert entry_points("group", path)["name"].module == "first"
