from __future__ import annotations

import pytest

from edge.quantity import count_text, size_text


@pytest.mark.parametrize(
    ("size", "english", "french"),
    [
        (1, "1 MB", "1 Mo"),
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
    assert count_text(134_515_008) == "134\u202f515\u202f008"
