"""A process that trains: `python -m pretrain RUN`, started by `run.py`, or by torchrun.

On a cluster, with RUN on a disk that all nodes see; then the bundle, on any of them:

    torchrun --nnodes 4 --nproc-per-node 8 … -m pretrain RUN recipe.toml
    lucie pretrain train recipe.toml my-model --work RUN
"""

from __future__ import annotations

import sys

from edge.attended import Tell, attended

__all__: list[str] = []


def _work(tell: Tell) -> bool:
    from pretrain.recipe import Recipe
    from pretrain.task import NextToken
    from pretrain.worker import work

    return work(sys.argv[1:], Recipe, lambda *_: NextToken(), tell)


if __name__ == "__main__":
    sys.exit(attended(_work))
