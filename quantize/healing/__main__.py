"""The process that heals: `python -m quantize.healing WORK SOURCE STAGE`, called by `process.py`.

It is a program of its own because `accelerate launch` starts programs, and because what torch
takes is then gone with it.
"""

from __future__ import annotations

import errno
import os
import sys
from functools import partial
from pathlib import Path

from edge.attended import Tell, attended, left_alone
from edge.torch_start import start
from quantize.errors import QuantizeError

__all__: list[str] = []


def _do(folder: Path, model: Path, stage: str, tell: Tell) -> bool:
    os.environ |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}
    import torch
    from accelerate import Accelerator

    from quantize.healing.preparation import prepare
    from quantize.healing.training import train
    from quantize.healing.work import Work

    start(torch)
    work = Work(folder)
    accelerator = Accelerator()
    if stage == "train" and accelerator.is_main_process:
        tell("on", accelerator.num_processes, accelerator.device.type)
    do = prepare if stage == "prepare" else train
    try:
        return do(work, model, accelerator, lambda *facts: tell("at", *facts), left_alone)
    except OSError as error:
        code = "heal.full" if error.errno == errno.ENOSPC else "heal.unwritable"
        reason = error.strerror or str(error)
        raise QuantizeError(code, path=str(folder), reason=reason) from error


if __name__ == "__main__":
    _folder, _model, _stage = sys.argv[1:]
    sys.exit(attended(partial(_do, Path(_folder), Path(_model), _stage)))
