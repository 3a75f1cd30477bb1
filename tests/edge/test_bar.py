"""Progress where stderr is no terminal: as in a log."""

from __future__ import annotations

import itertools

import pytest

from edge.commands import bar
from edge.commands.bar import Bar


@pytest.mark.parametrize(
    ("every_s", "lines"),
    [
        (0.5, []),  # 50 seconds in all
        (1.0, ["Reading 60 % of 100"]),
        (
            2.0,
            [
                "Reading 30 % of 100",
                "Reading 60 % of 100 · 1 min left",
                "Reading 90 % of 100 · 20 s left",
            ],
        ),
    ],
)
def test_a_log_gets_a_line_each_minute(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    every_s: float,
    lines: list[str],
) -> None:
    clock = itertools.count(0.0, every_s)
    monkeypatch.setattr(bar.time, "monotonic", lambda: next(clock))
    with Bar("Reading", str) as progress:
        for done in range(1, 101):
            progress(done, 100)
    assert capsys.readouterr().err.splitlines() == lines
