"""A process that distils: `python -m distill RUN [RECIPE]`, as `python -m pretrain` trains."""

from __future__ import annotations

import sys

from edge.attended import Tell, attended

__all__: list[str] = []


def _work(tell: Tell) -> bool:
    from distill.distillation import make_task
    from distill.recipe import DistillRecipe
    from pretrain.worker import work

    return work(sys.argv[1:], DistillRecipe, make_task, tell)


if __name__ == "__main__":
    sys.exit(attended(_work))
