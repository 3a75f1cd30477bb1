"""Learning rates, against the formulas computed by torch's own schedulers."""

from __future__ import annotations

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, LRScheduler

from pretrain.recipe import Schedule
from pretrain.schedule import rate


def peer(kind: type[LRScheduler], steps: int, **settings: float) -> list[float]:
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=2.0)
    schedule = kind(optimizer, **settings)
    rates = []
    for _ in range(steps):
        rates.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        schedule.step()
    return rates


def ours(steps: int, **settings: object) -> list[float]:
    schedule = Schedule(steps=steps, rate=2.0, **settings)  # type: ignore[arg-type]
    return [rate(schedule, step) for step in range(steps)]


def test_cosine() -> None:
    expected = peer(CosineAnnealingLR, 50, T_max=50, eta_min=0.2)
    assert ours(50, kind="cosine", warmup=0, last=0.1) == pytest.approx(expected)


def test_linear_to_zero() -> None:
    expected = peer(LinearLR, 50, start_factor=1, end_factor=0, total_iters=50)
    assert ours(50, kind="linear", warmup=0, last=0) == pytest.approx(expected)


def test_warm_up_stable_decay() -> None:
    rates = ours(100, kind="wsd", warmup=0.1, decay=0.2, last=0)
    assert rates[:10] == pytest.approx([0.2 * n for n in range(1, 11)])
    assert rates[10:81] == [2.0] * 71
    assert rates[80:] == pytest.approx([2.0 * (1 - n / 20) for n in range(20)])


def test_warm_up_ends_at_the_highest() -> None:
    rates = ours(100, kind="cosine", warmup=0.05)
    assert max(rates) == rates[4] == rates[5] == 2.0
    assert ours(3, kind="linear", warmup=0.01, last=0)[0] == 2.0  # too short for one
