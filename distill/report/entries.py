"""A report: of each model between a teacher and its last student, how good and how fast it is.

It is the file `report.json` of the bundle that `lucie distill run` makes.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from distill.errors import DistillError
from edge.manifest import Text
from pretrain.result import manifest_of

__all__ = [
    "FILE",
    "PICTURE",
    "Accuracy",
    "Curve",
    "Entry",
    "Figure",
    "Here",
    "Part",
    "Point",
    "Rates",
    "Report",
    "Role",
    "Task",
    "Trained",
    "read_report",
]

FILE, PICTURE = "report.json", "report.svg"
_MOST_BYTES = 16 << 20

Role = Literal["teacher", "pruned", "distilled", "cross-entropy", "scratch"]
"""`cross-entropy` began with the weights of `pruned`, `scratch` with new ones in its shape; both
learned from the text alone what `distilled` learned from the teacher, on the same tokens."""
Trained = Literal["distilled", "cross-entropy", "scratch"]
"""Those of them that were trained here."""
Task = Literal["agreement-en", "adjective-order-en", "agreement-it"]
"""Those of `tasks/`."""
Figure = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(gt=0)]


class Part(BaseModel):
    """Of what is kept of a report."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Accuracy(Part):
    """Of a task whose answers are right or wrong."""

    value: Annotated[float, Field(ge=0, le=1)]
    """Part of the items that were answered right."""
    error: Figure
    """Its standard error."""
    chance: Annotated[float, Field(ge=0, le=1)]
    """What guessing would reach."""
    items: Count
    """How many were asked."""


class Rates(Part):
    """Tokens per second."""

    prefill: Figure | None
    """None: not known."""
    decode: Figure
    prefill_measured: bool = True
    """False: the board's rate for this quantization is not known, and the least of others taken."""
    prefill_spread: Figure | None = None
    """Standard deviation over runs; None: predicted."""
    decode_spread: Figure | None = None
    """Likewise."""


class Entry(Part):
    """One model."""

    step: Annotated[int, Field(ge=0)]
    """Number of the cut that it comes after; 0: the teacher, from which nothing is cut."""
    role: Role
    """What it is there for."""
    shape: Text
    """Layers × width, FFN, query/key heads × head size."""
    parameters: Count
    """Weights, a tied embedding once."""
    tokens: Annotated[int, Field(ge=0)] = 0
    """That it was trained on since the cut."""
    bits_per_byte: dict[Text, Figure] = {}
    """On held-out text, by language."""
    accuracy: dict[Task, Accuracy] = {}
    """By task."""
    file_bytes: Count
    """Size of its GGUF file."""
    here: Rates | None = None
    """Measured on the machine of the report."""
    boards: dict[Text, Rates] = {}
    """Predicted, by board; of decode with a full context."""


class Point(Part):
    """A measurement on the way."""

    tokens: Annotated[int, Field(ge=0)]
    """Read so far."""
    bits_per_byte: dict[Text, Figure]
    """On held-out text, by language."""


class Curve(Part):
    """What a training measured on the way."""

    step: Count
    """Number of the cut."""
    role: Trained
    """What is trained."""
    points: tuple[Point, ...]
    """In order."""


class Here(Part):
    """Where and how speeds were measured."""

    machine: Text
    """Board, where it is a Raspberry Pi, and processor."""
    engine: Text
    """With its build."""
    threads: Count
    """For decode."""
    threads_batch: Count
    """For prefill."""
    n_prompt: Count
    """Tokens of the prompt; of pp512, 512."""
    n_gen: Count
    """Tokens of the answer; of tg128, 128."""


class Report(Part):
    """All of them, in order."""

    quantization: Text
    """Of which sizes and speeds are."""
    context: Count
    """Tokens in the KV cache for which decode is predicted."""
    here: Here
    """Where and how speeds were measured."""
    entries: Annotated[tuple[Entry, ...], Field(min_length=1)]
    """The teacher, and for each cut the models after it."""
    curves: tuple[Curve, ...] = ()
    """Of each training."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        """What the picture leans on; a file may have been edited."""
        measured = [entry.bits_per_byte for entry in self.entries]
        measured += [point.bits_per_byte for curve in self.curves for point in curve.points]
        pruned = {entry.step for entry in self.entries if entry.role == "pruned"}
        if not (
            all(measured[0].keys() <= each.keys() for each in measured)
            and {curve.step for curve in self.curves} <= pruned
        ):
            raise ValueError("something is missing")
        return self

    @property
    def teacher(self) -> Entry:
        """The first."""
        return self.entries[0]


def read_report(folder: Path) -> Report:
    """The report in a folder; that of a bundle must be what its manifest says.

    Raises:
        DistillError: there is none, or it is damaged.
        ModelError: the bundle is.
    """
    path = folder / FILE
    try:
        with path.open("rb") as file:
            raw = file.read(_MOST_BYTES)
        report = Report.model_validate_json(raw)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise DistillError("report.unreadable", path=str(path), reason=reason) from error
    except ValidationError as error:
        raise DistillError("report.damaged", path=str(path)) from error
    known = manifest_of(folder)
    if known and known.files[FILE].sha256 != hashlib.sha256(raw).hexdigest():
        raise DistillError("report.damaged", path=str(path))
    return report
