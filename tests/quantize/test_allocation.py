"""The choice of types, against trying all of them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from quantize.errors import QuantizeError
from quantize.ggml import blocks
from quantize.search.allocation import allocate, least_size, size_of
from quantize.search.notes import Sensitivity

TYPES = ("Q4_0", "Q5_0", "Q4_K", "Q8_0")
ERRORS = {"Q4_0": 8e-3, "Q5_0": 2e-3, "Q4_K": 6e-3, "Q8_0": 4e-5}


def tensors(seed: int) -> dict[str, Sensitivity]:
    dice = np.random.default_rng(seed)
    made = {}
    for n in range(5):
        shape = (int(dice.integers(1, 40)), int(dice.choice([64, 256, 512])))
        errors = {
            kind: error * dice.uniform(0.5, 2)
            for kind, error in ERRORS.items()
            if blocks.fits(kind, shape[1])
        }
        made[str(n)] = Sensitivity(
            shape=shape, probe="Q4_0", kld=10 ** dice.uniform(-5, -1), errors=errors
        )
    return made


def shapes(given: dict[str, Sensitivity]) -> list[tuple[int, int]]:
    return [one.shape for one in given.values()]


@pytest.mark.parametrize("seed", range(12))
def test_nothing_within_the_budget_costs_less(seed: int) -> None:
    given = tensors(seed)
    least = least_size(shapes(given), TYPES)
    budget = int(least * (1 + 0.8 * np.random.default_rng(seed).random()))

    def cost(chosen: dict[str, str]) -> float:
        return sum(given[name].cost(kind) for name, kind in chosen.items())

    choices = [[kind for kind in TYPES if kind in one.errors] for one in given.values()]
    every = (dict(zip(given, kinds, strict=True)) for kinds in itertools.product(*choices))
    best = min(cost(chosen) for chosen in every if size_of(given, chosen) <= budget)
    found = allocate(given, TYPES, budget)
    assert size_of(given, found) <= budget
    assert cost(found) == pytest.approx(best, rel=1e-3)


def test_the_smallest_types_just_fit() -> None:
    given = tensors(1)
    least = least_size(shapes(given), TYPES)
    assert size_of(given, allocate(given, TYPES, least)) == least
    with pytest.raises(QuantizeError, match="in their smallest types"):
        allocate(given, TYPES, least - 1)


def test_a_matrix_that_does_not_matter_is_made_small() -> None:
    given = tensors(2)
    given["0"] = Sensitivity(shape=(100, 256), probe="Q4_0", kld=0, errors=ERRORS)
    budget = size_of(given, dict.fromkeys(given, "Q8_0")) - 1
    assert blocks.size(allocate(given, TYPES, budget)["0"], (100, 256)) < 100 * 256


def test_costs_of_many_orders_of_magnitude_among_many_matrices() -> None:
    dice = np.random.default_rng(4)
    given = {
        str(n): Sensitivity(
            shape=(64, 512), probe="Q4_0", kld=10 ** dice.uniform(-9, 0), errors=ERRORS
        )
        for n in range(200)
    }
    budget = int(1.4 * least_size(shapes(given), TYPES))
    found = allocate(given, TYPES, budget)
    assert size_of(given, found) <= budget
    # Alike but for what they cost: none that costs more may have the coarser type.
    order = sorted(given, key=lambda name: given[name].kld)
    errors = [ERRORS[found[name]] for name in order if given[name].kld > 1e-5]
    assert errors == sorted(errors, reverse=True)
