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

from pydantic import TypeAdapter

from edge.durable import replace_file
from pretrain.disk import written

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

__all__ = ["Journal", "read_journal"]

_LOG = "log.jsonl"
_Line = TypeAdapter(dict[str, float])


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
        known = {name: value for name, value in figures.items() if value is not None}
        with written(self._folder):
            self._log.write(json.dumps({"step": step, **known}) + "\n")
            self._log.flush()
            for name, value in known.items():
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
    """The lines of a run's journal; one that a pulled plug cut, or a disk damaged, is left out."""
    path = folder / _LOG
    return [line for _, line in _lines(path)] if path.exists() else []


def _lines(path: Path) -> list[tuple[bytes, dict[str, float]]]:
    found = []
    for line in path.read_bytes().split(b"\n"):
        with suppress(ValueError):
            found.append((line, _Line.validate_json(line)))
    return [(line, figures) for line, figures in found if "step" in figures]


def _forget(path: Path, step: int) -> None:
    """Leave only the lines up to a step, with what was learned in it."""
    if path.exists():
        kept = [
            line
            for line, figures in _lines(path)
            if figures["step"] < step or (figures["step"] == step and "loss" in figures)
        ]
        replace_file(path, b"".join(line + b"\n" for line in kept))
