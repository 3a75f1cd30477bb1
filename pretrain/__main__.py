"""A process that trains: `python -m pretrain RUN`, started by `run.py`, or by torchrun.

On a cluster, after `lucie pretrain train` has made RUN on a disk that all nodes see:

    torchrun --nnodes 4 --nproc-per-node 8 … -m pretrain RUN
"""

from __future__ import annotations

import sys
from pathlib import Path

from edge.attended import Tell, attended

__all__: list[str] = []


def _work(tell: Tell) -> bool:
    from pretrain.recipe import Recipe
    from pretrain.task import NextToken
    from pretrain.worker import work

    return work(Path(sys.argv[1]), Recipe, lambda *_: NextToken(), tell)


if __name__ == "__main__":
    sys.exit(attended(_work))
