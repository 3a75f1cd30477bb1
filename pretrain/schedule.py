"""Learning rate over steps, as a function of the step alone."""

from __future__ import annotations

import math

from pretrain.recipe import Schedule

__all__ = ["rate"]


def rate(schedule: Schedule, step: int) -> float:
    """The learning rate of a step, counted from 0.

    It rises over the first `warmup` of the steps, and then

        cosine    follows half a cosine down to `last`
        linear    falls in a straight line to `last`
        wsd       stays, and falls in a straight line over the last `decay` of the steps
    """
    warmup = round(schedule.warmup * schedule.steps)
    if step < warmup:
        return schedule.rate * (step + 1) / warmup
    lowest = schedule.last
    begin = warmup
    if schedule.kind == "wsd":
        begin = max(warmup, schedule.steps - round(schedule.decay * schedule.steps))
    through = min(max((step - begin) / max(schedule.steps - begin, 1), 0.0), 1.0)
    left = (1 + math.cos(math.pi * through)) / 2 if schedule.kind == "cosine" else 1 - through
    return schedule.rate * (lowest + (1 - lowest) * left)
