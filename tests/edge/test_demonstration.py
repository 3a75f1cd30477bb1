"""Demonstrations give commands one after the other, and go on where they were."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.demonstration import Step, demonstrate
from edge.paths import cache_dir


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LUCIE_HOME", str(tmp_path))


def test_what_is_there_is_not_made_again(capfd: pytest.CaptureFixture[str]) -> None:
    steps = (Step("--help", "made"), Step("models --help"))
    assert demonstrate("show", steps) == 0
    where, *given = capfd.readouterr().err.splitlines()
    assert str(cache_dir() / "show") in where
    assert given == ["lucie --help", "lucie models --help"]
    (cache_dir() / "show" / "made").touch()
    assert demonstrate("show", steps) == 0
    assert capfd.readouterr().err.splitlines() == [where, "lucie models --help"]


def test_the_first_that_fails_ends_it(capfd: pytest.CaptureFixture[str]) -> None:
    assert demonstrate("show", (Step("nonsense"), Step("--help"))) == 2
    said = capfd.readouterr()
    assert "nonsense" in said.err
    assert "Usage" not in said.out
