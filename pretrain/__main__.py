"""A process that trains: `python -m pretrain RUN`, started by `run.py`, or by torchrun.

On a cluster, after `lucie pretrain train` has made RUN on a disk that all nodes see:

    torchrun --nnodes 4 --nproc-per-node 8 … -m pretrain RUN
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
from functools import partial
from pathlib import Path

from edge.attended import Tell, attended, left_alone
from pretrain.errors import PretrainError

__all__: list[str] = []


def _train(folder: Path, tell: Tell) -> bool:
    os.environ |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}
    from pretrain.materials import prepared
    from pretrain.run import Run
    from pretrain.task import NextToken
    from pretrain.texts import read_texts
    from pretrain.training import Training
    from pretrain.weights_file import write_weights
    from pretrain.world import World

    run = Run(folder)
    recipe = run.read()
    try:
        with World.joined(recipe.parallel) as world:
            materials = prepared(recipe, read_texts(recipe, lambda *_: None))
            training = Training(recipe, materials, NextToken(), folder, world)
            if not training.run(lambda *facts: tell("at", *facts), left_alone):
                return False
            draft = run.result.with_suffix(".tmp")
            if world.first:
                shutil.rmtree(draft, ignore_errors=True)
                draft.mkdir()
            world.wait()
            write_weights(training.part, draft, world)
            if world.first:
                config = materials.config.as_json() | {"dtype": "float32"}
                (draft / "config.json").write_text(json.dumps(config, indent=2))
                (draft / "metrics.json").write_text(json.dumps(training.metrics))
                draft.rename(run.result)
                training.checkpoints.clear()
            world.wait()
            return True
    except OSError as error:
        code = "train.full" if error.errno == errno.ENOSPC else "train.unwritable"
        reason = error.strerror or str(error)
        raise PretrainError(code, path=str(folder), reason=reason) from error


if __name__ == "__main__":
    sys.exit(attended(partial(_train, Path(sys.argv[1]))))
