"""Texts that come with the project, in five languages and code; their licences stand beside them.

What a matrix was calibrated on must not be what the result is measured with: no passage
stands in both.
"""

from __future__ import annotations

from pathlib import Path

from quantize.measuring.calibration import LabelledText

__all__ = ["CALIBRATION", "MEASURE"]

_FOLDER = Path(__file__).parents[1] / "texts"
_LABELS = ("fr", "en", "de", "es", "it", "code")


def _all(folder: str) -> tuple[LabelledText, ...]:
    return tuple(LabelledText(label, _FOLDER / folder / f"{label}.txt") for label in _LABELS)


CALIBRATION = _all("calibration")
"""About 55 kB of each."""
MEASURE = _all("measure")
"""About 20 kB of each."""
