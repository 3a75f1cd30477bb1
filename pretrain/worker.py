"""What a process of a training does: it is the same for text and for a teacher."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from safetensors import SafetensorError

from edge.attended import Tell, left_alone
from pretrain.disk import unread, written
from pretrain.materials import Materials, prepared
from pretrain.recipe import Recipe
from pretrain.recipe_file import read_recipe
from pretrain.run import Run
from pretrain.task import Task
from pretrain.texts import read_texts
from pretrain.training import Training
from pretrain.weights_file import write_weights
from pretrain.world import World

__all__ = ["alone", "work"]

R = TypeVar("R", bound=Recipe)
MakeTask = Callable[[R, Materials, World], Task]
"""Called with the recipe and what it is made of; gives what is learned."""


def work(arguments: Sequence[str], kind: type[R], make_task: MakeTask[R], tell: Tell) -> bool:
    """Train in RUN, to its end or until nobody waits; whether it is finished.

    Args:
        arguments: RUN, and the recipe's file, where nobody has noted it there.
        kind: of recipe.
        make_task: gives what is learned.
        tell: called after each step.

    Raises:
        LucieError: something of it fails; what has been saved is kept.
    """
    os.environ |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}
    folder, *given = map(Path, arguments)
    run = Run(folder)
    recipe = read_recipe(kind, given[0]) if given else run.read(kind)
    with written(folder):
        if given:
            folder.mkdir(parents=True, exist_ok=True)
            if _leads():
                run.begin(recipe)
    try:
        with alone(run), World.joined(recipe.parallel) as world:
            materials = prepared(recipe, read_texts(recipe, lambda *_: None))
            task = make_task(recipe, materials, world)
            training = Training(recipe, materials, task, folder, world)
            if not training.run(lambda *facts: tell("at", *facts), left_alone):
                return False
            with written(folder):
                _leave(training, run, world)
            return True
    except (OSError, SafetensorError) as error:  # a model's folder, texts, what a teacher said
        raise unread(folder, error) from error


def _leads() -> bool:
    """Whether this is the first process, before they have met."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def alone(run: Run) -> Iterator[None]:
    """Until a worker that outlived whoever had started it has saved, and is gone."""
    if not _leads():
        yield
        return
    with written(run.folder):
        file = run.log.open("ab")
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _leave(training: Training, run: Run, world: World) -> None:
    """Write the result; every process must call it."""
    draft = run.result.with_suffix(".tmp")
    if world.first:
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir()
    world.wait()
    write_weights(training.part, draft, world)
    if world.first:
        config = training.materials.config.as_json() | {"dtype": "float32"}
        (draft / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
        run.leave_result(draft, training.metrics, training.origin)
