"""The process that trains: `python -m distill.chat RUN`, called by `stage.py`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from edge.attended import Tell, attended, left_alone

__all__: list[str] = []


def _work(tell: Tell) -> bool:
    offline = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "HF_HUB_DISABLE_TELEMETRY")
    os.environ |= dict.fromkeys(offline, "1") | {"TRANSFORMERS_VERBOSITY": "error"}
    from safetensors import SafetensorError

    from distill.chat.recipe import ChatRecipe
    from distill.chat.training import train
    from pretrain.disk import unread
    from pretrain.run import Run
    from pretrain.worker import alone

    run = Run(Path(sys.argv[1]))
    try:
        with alone(run):
            return train(run, run.read(ChatRecipe), lambda *at: tell("at", *at), left_alone)
    except (OSError, SafetensorError) as error:  # a model's folder
        raise unread(run.folder, error) from error


if __name__ == "__main__":
    sys.exit(attended(_work))
