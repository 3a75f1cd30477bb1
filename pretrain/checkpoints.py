"""Checkpoints: all that going on takes, all or nothing.

    RUN/checkpoints/step-00000200/
    ├── state.json                 step, what recipe, size and CRC-32 of each file
    └── shard-….safetensors        each process's share of weights and moments

Each process writes its own share; one training may be taken up by another number of processes
(torch's distributed checkpoints find the pieces). Only safetensors: no pickle is read or written.
A checkpoint is written to a hidden folder that is renamed, and the one before goes after that.
"""

from __future__ import annotations

import json
import shutil
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import (
    HuggingFaceStorageReader,
    HuggingFaceStorageWriter,
)
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from edge.durable import sync_folder, sync_tree
from pretrain.disk import unwritten
from pretrain.errors import PretrainError
from pretrain.origin import Origin
from pretrain.part import Part
from pretrain.saved_steps import saved_steps, step_folder
from pretrain.world import World

if TYPE_CHECKING:
    from torch.optim import Optimizer

__all__ = ["Checkpoints"]

_STATE = "state.json"
_DRAFT = ".tmp-"
_BLOCK = 1 << 20
_KEPT = 2
"""The last one, and the one before, should that be damaged."""
_MOMENTS = ("exp_avg", "exp_avg_sq")
"""AdamW's, by its names for them."""


class _State(Origin):
    step: int
    """Steps done."""
    recipe: str
    """Identity of the recipe."""
    files: dict[str, int]
    """Sizes in bytes."""
    crc32: dict[str, int]
    """Of each: a flipped bit would be trained on."""


class Checkpoints:
    """The checkpoints of a training.

    Args:
        folder: where they are.
        recipe: identity of its recipe.
        origin: what it is made of.
        world: the processes.
    """

    def __init__(self, folder: Path, recipe: str, origin: Origin, world: World) -> None:
        self.folder = folder
        self._recipe = recipe
        self._origin = origin
        self._world = world

    def save(self, step: int, part: Part, optimizer: Optimizer) -> None:
        """Leave a checkpoint of this step, if there is none; every process must call it.

        Raises:
            PretrainError: there is no room, or the disk takes nothing.
        """
        target = step_folder(self.folder, step)
        # What it was taken up from, or what was saved just before it was measured.
        if self._world.any(self._world.first and target.exists())[0]:
            return
        draft = target.with_name(f"{_DRAFT}{target.name}")
        with _written(self.folder), self._cleared(draft):
            if self._world.first:
                self.folder.mkdir(parents=True, exist_ok=True)
                for left in self.folder.glob(f"{_DRAFT}*"):  # of a disk that was full, a kill
                    _remove(left)
                draft.mkdir()
            self._world.wait()
            with _quiet():
                writer = HuggingFaceStorageWriter(str(draft), save_distributed=True)
                save(_tensors(part, optimizer), storage_writer=writer)
            self._world.wait()
            written = sorted(draft.iterdir())
            mine = set(self._world.mine(written))
            # Each is of one process, and nothing in the others.
            sums = self._world.sums([_crc32(each) if each in mine else 0 for each in written])
            if self._world.first:
                files = {each.name: each.stat().st_size for each in written}
                crc32 = dict(zip(files, sums, strict=True))
                state = self._state(step, files, crc32)
                (draft / _STATE).write_text(state.model_dump_json(indent=1), encoding="utf-8")
                sync_tree(draft)
                draft.rename(target)
                sync_folder(self.folder)
                for _, old in saved_steps(self.folder)[:-_KEPT]:
                    shutil.rmtree(old)
        self._world.wait()

    @contextmanager
    def _cleared(self, draft: Path) -> Iterator[None]:
        """Leave no half of a checkpoint: on a full disk it would keep what the next one needs."""
        try:
            yield
        except BaseException:
            if self._world.first and draft.exists():
                _remove(draft)
            raise

    def restore(self, part: Part, optimizer: Optimizer) -> int:
        """Take up the last one; how many steps had been done, 0 if there is none.

        Every process must call it.

        Raises:
            PretrainError: it is of another training or version, or damaged.
        """
        found = saved_steps(self.folder)
        if not found:
            return 0
        step, path = found[-1]
        state = self._check(path, step)
        _give_moments(part, optimizer, state.step)
        tensors = _tensors(part, optimizer)
        try:
            with _quiet():
                load(tensors, storage_reader=HuggingFaceStorageReader(str(path)))
        except CheckpointException as error:
            raise PretrainError("train.damaged", path=str(path)) from error
        return state.step

    def _state(self, step: int, files: dict[str, int], crc32: dict[str, int]) -> _State:
        origin = self._origin.model_dump()
        return _State(step=step, recipe=self._recipe, files=files, crc32=crc32, **origin)

    def _check(self, path: Path, step: int) -> _State:
        state = _read(path)
        other = "other-checkpoints" if state.recipe != self._recipe else state.other(self._origin)
        if other:
            raise PretrainError(f"train.{other}", path=str(self.folder.parent))
        there = {each.name for each in path.glob("*.safetensors")}
        whole = state.step == step and there == state.files.keys() == state.crc32.keys()
        whole = whole and all(_size(path / name) == size for name, size in state.files.items())
        # Each process reads a share of the files; one that finds damage is enough.
        mine = self._world.mine(sorted(state.files)) if whole else ()
        whole = whole and all(_crc32(path / name) == state.crc32[name] for name in mine)
        if self._world.any(not whole)[0]:
            raise PretrainError("train.damaged", path=str(path))
        return state


def _read(path: Path) -> _State:
    try:
        raw = (path / _STATE).read_bytes()
        fields = json.loads(raw)
        known = _State.model_fields.keys()
        # What it began with was not noted at first.
        if isinstance(fields, dict) and fields and fields.keys() | {"begun_with"} != known:
            raise PretrainError("train.other-version", path=str(path))
        return _State.model_validate_json(raw)
    except (OSError, ValueError, RecursionError) as error:
        raise PretrainError("train.damaged", path=str(path)) from error


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _size(file: Path) -> int | None:
    return file.stat().st_size if file.is_file() else None


def _crc32(file: Path) -> int:
    crc = 0
    with file.open("rb") as reader:
        while block := reader.read(_BLOCK):
            crc = zlib.crc32(block, crc)
    return crc


def _tensors(part: Part, optimizer: Optimizer) -> dict[str, Tensor]:
    """Weights by their names, and moments as `exp_avg.<name>`."""
    tensors = {}
    for name, parameter in part.named_parameters():
        tensors[name] = parameter.detach()
        for moment in _MOMENTS:
            tensors[f"{moment}.{name}"] = optimizer.state[parameter][moment]
    return tensors


def _give_moments(part: Part, optimizer: Optimizer, step: int) -> None:
    """Make room for the moments, which AdamW itself does at its first step."""
    for parameter in part.parameters():
        known: dict[str, Any] = {each: torch.zeros_like(parameter) for each in _MOMENTS}
        optimizer.state[parameter] = known | {"step": torch.tensor(float(step))}


@contextmanager
def _quiet() -> Iterator[None]:
    """Without torch's remark that there is one process."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled")
        yield


@contextmanager
def _written(folder: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, CheckpointException) as error:
        raise unwritten(folder, error, _first(error)) from error


def _first(error: BaseException) -> str | None:
    """The reason of the first process that failed."""
    failures = getattr(error, "failures", {})
    return next((str(each[0]) for each in failures.values()), None)
