"""What a training tells on the way: a line of JSON a step, and TensorBoard's events.

    RUN/log.jsonl        {"step": 1, "loss": 10.8, …}
    RUN/tensorboard/     tensorboard --logdir RUN/tensorboard

A training that is taken up at a checkpoint forgets the lines behind it, and what was measured at
it, which it measures again: the file holds everything once, as if nothing had happened.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from edge.durable import replace_file
from pretrain.disk import written

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

__all__ = ["Journal", "read_journal", "read_measurements"]

_LOG = "log.jsonl"
_BITS = "bits_per_byte/"
"""Before the language, in the name of a figure."""


class _Line(BaseModel):
    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, float] = Field(init=False)

    step: float
    measured_on: str = ""
    """Identity of the held-out text and of how much of it was read; empty: of no measurement, or
    of a version that did not note it."""

    @property
    def figures(self) -> dict[str, float]:
        """All of it that is a number."""
        return {"step": self.step, **self.__pydantic_extra__}


class Journal:
    """Open while a training runs, in the process that writes.

    Args:
        folder: of the run.
        step: steps done before.

    Raises:
        PretrainError: the disk is full, or takes nothing.
    """

    def __init__(self, folder: Path, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._folder = folder
        path = folder / _LOG
        with written(folder):
            _forget(path, step)
            self._log: IO[str] = path.open("a", encoding="utf-8")
            events = str(folder / "tensorboard")
            self._events: SummaryWriter = SummaryWriter(events, purge_step=step + 1)

    def write(self, step: int, figures: Mapping[str, float | None]) -> None:
        """Note figures of a step, counted from 1; what is None is not known.

        Raises:
            PretrainError: the disk is full, or takes nothing.
        """
        self._write(step, {name: value for name, value in figures.items() if value is not None})

    def write_measurement(self, step: int, bits: Mapping[str, float], on: str) -> None:
        """Note bits per byte after a step.

        Args:
            step: how many are done.
            bits: by language.
            on: identity of what was measured on.

        Raises:
            PretrainError: the disk is full, or takes nothing.
        """
        figures = {f"{_BITS}{language}": value for language, value in bits.items()}
        self._write(step, figures, measured_on=on)

    def _write(self, step: int, figures: Mapping[str, float], **facts: str) -> None:
        with written(self._folder):
            self._log.write(json.dumps({"step": step, **figures, **facts}) + "\n")
            self._log.flush()
            for name, value in figures.items():
                self._events.add_scalar(name, value, step)

    def close(self) -> None:
        """Write out what is still in memory.

        Raises:
            PretrainError: the disk is full, or takes nothing.
        """
        with written(self._folder):
            self._log.close()
            self._events.close()


def read_journal(folder: Path) -> list[dict[str, float]]:
    """Figures of a run's journal; a line that a pulled plug cut, or a disk damaged, is left out."""
    return [line.figures for _, line in _lines(folder / _LOG)]


def read_measurements(folder: Path, on: str) -> list[tuple[int, dict[str, float]]]:
    """What a run has measured on held-out text: steps done, and bits per byte by language.

    Args:
        folder: of the run.
        on: identity of what is measured on; what was measured on something else is left out.
    """
    found = []
    for _, line in _lines(folder / _LOG):
        bits = {
            name.removeprefix(_BITS): value
            for name, value in line.figures.items()
            if name.startswith(_BITS)
        }
        if bits and line.measured_on in (on, ""):
            found.append((round(line.step), bits))
    return found


def _lines(path: Path) -> list[tuple[bytes, _Line]]:
    """Those that are whole, as they stand there and as they are read."""
    found = []
    for line in path.read_bytes().split(b"\n") if path.exists() else ():
        with suppress(ValueError):
            found.append((line, _Line.model_validate_json(line)))
    return found


def _forget(path: Path, step: int) -> None:
    """Leave only the lines up to a step, with what was learned in it."""
    if path.exists():
        kept = [
            line
            for line, read in _lines(path)
            if read.step < step or (read.step == step and "loss" in read.figures)
        ]
        replace_file(path, b"".join(line + b"\n" for line in kept))
