"""Twenty turns on a Pi 3, which has 1 GB and no swap but zram."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.images.minute import QUESTIONS, measure

pytestmark = [
    pytest.mark.long("images/board/*", "images/building/*", "images/onboard", "images/booting",
                     "edge/plan.py", "edge/llamacpp", "edge/kvstore.py", "tests/images/minute.py",
                     "tests/images/shell.py"),
    pytest.mark.usefixtures("kept"),
]  # fmt: skip

MOST_IDLE = 120.0
"""In MiB, of a board whose chat stands and whose model is not loaded."""


def test_twenty_turns_fit_into_a_pi_3(built: Path, model_path: Path, tmp_path: Path) -> None:
    told: list[str] = []
    image = next(built.glob("*.img.zst"))
    memory = measure(image, model_path, tmp_path, told.append).memory
    assert len(told) == len(QUESTIONS) == 20
    assert (memory.killed, memory.restarts) == (0, 0)
    assert memory.idle <= MOST_IDLE
