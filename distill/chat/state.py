"""How far a chat stage is: weights, moments and step, in one safetensors file.

What transformers' Trainer saves by itself are pickles (optimizer.pt, scheduler.pt, rng_state.pth,
training_args.bin). None is written here, and none is read: the order of prompts, the learning
rate and the draws of a step follow from its number and the seed.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError, safe_open

from distill.chat.saved import STEP
from distill.errors import DistillError
from edge.text import one_line
from pretrain.errors import PretrainError
from pretrain.origin import Origin
from quantize.errors import QuantizeError
from quantize.healing.state import gather, restore, write_tensors

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer

__all__ = ["State"]

_PROMPTS, _TEACHER, _STUDENT = "prompts", "teacher", "student"
_CRC = "crc32"
"""Of the other facts and all tensors, by their names: a flipped bit would be trained on."""


class State:
    """The file, which may not be there yet.

    Args:
        path: where it is.
        origin: the prompts, the teacher and the student, by their identities.
    """

    def __init__(self, path: Path, origin: Origin) -> None:
        self._path = path
        self._origin = origin

    def step(self) -> int:
        """Steps that are done.

        Raises:
            DistillError: it is damaged.
            PretrainError: other prompts were answered, another teacher has judged, or another
                student has begun.
        """
        if not self._path.exists():
            return 0
        try:
            with safe_open(self._path, framework="pt") as file:
                facts = file.metadata() or {}
            step = int(facts[STEP])
            was = Origin(
                data=facts[_PROMPTS],
                taught_by=facts[_TEACHER],
                begun_with=facts.get(_STUDENT, ""),
            )
        except (SafetensorError, OSError, KeyError, ValueError) as error:
            raise self._damaged(error) from error
        if other := was.other(self._origin):
            raise PretrainError(f"train.{other}", path=str(self._path.parent.parent))
        return step

    def save(self, model: nn.Module, optimizer: Optimizer, step: int) -> None:
        """Note all that going on takes."""
        self._path.parent.mkdir(exist_ok=True)
        tensors = gather(model, optimizer)
        origin = self._origin
        facts = {
            STEP: str(step),
            _PROMPTS: origin.data,
            _TEACHER: origin.taught_by,
            _STUDENT: origin.begun_with,
        }
        crc = _crc32(facts, (tensors[name] for name in sorted(tensors)))
        write_tensors(self._path, tensors, facts | {_CRC: str(crc)})

    def restore(self, model: nn.Module, optimizer: Optimizer) -> None:
        """Take up what was saved.

        Raises:
            DistillError: it is damaged, or of a model of another shape.
        """
        try:
            self._check()
            restore(self._path, model, optimizer)
        except QuantizeError as error:
            raise self._damaged(error.facts["reason"]) from error

    def _check(self) -> None:
        try:
            with safe_open(self._path, framework="pt") as file:
                facts = file.metadata() or {}
                told = facts.pop(_CRC, None)
                found = _crc32(facts, (file.get_tensor(name) for name in sorted(file.keys())))
        except (SafetensorError, OSError) as error:
            raise self._damaged(error) from error
        if told != str(found):
            raise self._damaged("CRC-32")

    def _damaged(self, reason: object) -> DistillError:
        return DistillError("chat.damaged", path=str(self._path), reason=one_line(reason))


def _crc32(facts: Mapping[str, str], tensors: Iterable[Tensor]) -> int:
    crc = zlib.crc32(json.dumps(facts, sort_keys=True).encode())
    for tensor in tensors:
        crc = zlib.crc32(tensor.contiguous().flatten().view(torch.uint8).numpy().data, crc)
    return crc
