"""What a person may ask for, and what is answered to the rest."""

from __future__ import annotations

import pytest

from distill.errors import DistillUsageError
from distill.planning.target import OnBoard, Parameters, parse


@pytest.mark.parametrize(
    "given", ["1.1b", "1.1B", "1,1 Md", "1100m", "1100000000", "1,100,000,000"]
)
def test_a_number_of_parameters(given: str) -> None:
    assert parse(given) == Parameters(990_000_000, 1_210_000_000, 1_100_000_000)


@pytest.mark.parametrize("given", ["500k", "500K", "0.5m", "500000", "500,000", "500 k"])
def test_a_number_below_a_million(given: str) -> None:
    assert parse(given) == Parameters(450_000, 550_000, 500_000)


def test_a_name_means_what_people_call_so() -> None:
    """Gemma 3 1B (1.00), TinyLlama (1.10), Llama-3.2-1B (1.24) and Luciole-1B (1.32)."""
    wanted = parse("1b")
    assert isinstance(wanted, Parameters)
    for published in (999_885_952, 1_100_048_384, 1_235_814_400, 1_320_000_000):
        assert wanted.least <= published <= wanted.most
    assert wanted.least < wanted.aim < wanted.most


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("pi5@12", OnBoard("pi5", 12, None, None)),
        ("Raspberry Pi 5 at 12 tok/s", OnBoard("pi5", 12, None, None)),
        ("pi5 at 12 tokens/s with 2k context in 2 GB", OnBoard("pi5", 12, 2048, 2)),
        ("pi5 at 12 tokens per second in 2GB, 2000 tokens of context", OnBoard("pi5", 12, 2000, 2)),
        ("pi5 à 12,5 jetons/s avec 2k de contexte dans 2 Go", OnBoard("pi5", 12.5, 2048, 2)),
        ("zero2w@5 in 512 MiB", OnBoard("zero2w", 5, None, pytest.approx(0.536870912))),
        ("here@8", OnBoard("here", 8, None, None)),
        ("cette machine à 8 jetons/s", OnBoard("here", 8, None, None)),
    ],
)
def test_a_board_and_a_speed(given: str, wanted: OnBoard) -> None:
    assert parse(given) == wanted


@pytest.mark.parametrize(
    "given",
    [
        "", "b", "-1b", "0b", "1.1", "12", "999", "1e9", "nan", "inf", "9" * 500, "pi5", "pi5@",
        "pi5@fast",
        "pi5@0", "pi5@12 in 2 GB or so", "pi5@12 with 2k context in 2 GB with 4k context",
        "pi5@12 in 0 GB", "pi5@12 with 0 context", "1b at pi5", "pi5@12@13", "\x1b[31m",
        "pi5@12 with " + "9" * 400 + "k context", "pi5@12 in " + "9" * 400 + " GB",
        "pi5@" + "9" * 400, "9" * 400 + "b", "0." + "9" * 400 + "b", "pi5@1 " + "1 " * 9999,
        "pi5@12 with " + "9" * 150 + "k context",
    ],
)  # fmt: skip
def test_what_is_not_understood_is_answered_with_what_is(given: str) -> None:
    with pytest.raises(DistillUsageError) as caught:
        parse(given)
    said = str(caught.value)
    assert "pi5" in said
    assert said.isprintable()


def test_an_unknown_board_is_answered_with_those_that_are_known() -> None:
    with pytest.raises(DistillUsageError, match=r"No board toaster is known.*pi5, pi4, zero2w"):
        parse("toaster@3")
