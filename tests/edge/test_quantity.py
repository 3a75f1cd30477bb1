from __future__ import annotations

import pytest

from edge.commands import bar
from edge.quantity import count_text, duration_text, power_text, size_text


@pytest.mark.parametrize(
    ("size", "english", "french"),
    [
        (0, "0 kB", "0 ko"),
        (1, "1 kB", "1 ko"),
        (36_288, "36 kB", "36 ko"),
        (999_499, "999 kB", "999 ko"),
        (999_500, "1 MB", "1 Mo"),
        (98_362_432, "98 MB", "98 Mo"),
        (999_499_999, "999 MB", "999 Mo"),
        (999_500_000, "1.0 GB", "1,0 Go"),
        (4_070_000_000, "4.1 GB", "4,1 Go"),
    ],
)
def test_sizes(size: int, english: str, french: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert size_text(size) == english
    monkeypatch.setenv("LUCIE_LANG", "fr")
    assert size_text(size) == french


def test_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    assert count_text(134_515_008) == "134,515,008"
    assert count_text(7) == "7"
    monkeypatch.setenv("LUCIE_LANG", "fr")
    assert count_text(134_515_008) == "134\u00a0515\u00a0008"


def test_powers(monkeypatch: pytest.MonkeyPatch) -> None:
    assert power_text(4.467e20) == "4.5·10²⁰"
    assert power_text(9.99e20) == "1.0·10²¹"
    assert power_text(0.00021) == "2.1·10⁻⁴"
    monkeypatch.setenv("LUCIE_LANG", "fr")
    assert power_text(4.467e20) == "4,5·10²⁰"


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0.1, "1 s"), (59.4, "59 s"), (59.6, "1 min"), (3540, "59 min"), (11_100, "3 h 05")],
)
def test_times(seconds: float, told: str) -> None:
    assert duration_text(seconds) == told


def test_a_bar_says_how_long_is_left_of_what_was_taken_up(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Forty of a hundred were there; ten more took twenty seconds."""
    clock = iter([60.0, 100.0, 105.0, 120.0, 130.0])
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setattr(bar.time, "monotonic", lambda: next(clock))
    shown = bar.Bar("Training", str)
    for done in (0, 40, 42, 50, 100):
        shown(done, 100)
    lines = capsys.readouterr().err.split("\r")[1:]
    assert ["left" in line for line in lines] == [False, False, False, True, False]
    assert "50 % of 100 · 2 min left" in lines[3]


@pytest.mark.parametrize(("columns", "bar_width"), [(120, 24), (69, 12), (60, 0)])
def test_figures_have_the_room_before_the_bar(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    columns: int,
    bar_width: int,
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    shown = bar.Bar("Training", "{} steps".format)
    shown.figures = "loss 2.000 · 123 tokens/s"
    shown(30, 60)
    line = capsys.readouterr().err.partition("\x1b")[0]
    assert line.endswith(" 50 % of 60 steps · loss 2.000 · 123 tokens/s")
    assert line.count("#") + line.count("-") == bar_width
    assert len(line) <= columns
