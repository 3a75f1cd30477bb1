"""The process that heals: `python -m quantize.healing WORK SOURCE STAGE`, called by `process.py`.

    stdin    ends when the one who called gives up, or is gone: then so do we
    stdout   what happens, a JSON array a line; nothing else
    stderr   what libraries say

It is a program of its own because `accelerate launch` starts programs, and because what torch
takes is then gone with it.
"""

from __future__ import annotations

import errno
import json
import os
import select
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

__all__: list[str] = []

_STOPPED = 3
"""The exit code of a training that was stopped and can be taken up."""


def main(folder: str, model: str, stage: str) -> int:
    """Do one stage; returns the exit code."""
    told = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
    os.dup2(2, 1)  # libraries that print do not disturb

    def tell(*facts: Any) -> None:
        with suppress(BrokenPipeError):  # nobody listens; stdin says so, too
            told.write(json.dumps(facts) + "\n")

    os.environ |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}
    from edge.errors import LucieError

    try:
        return _do(Path(folder), Path(model), stage, tell)
    except LucieError as error:
        tell("error", type(error).__name__, error.code, error.facts)
        return error.exit_code
    except OSError as error:
        code = "heal.full" if error.errno == errno.ENOSPC else "heal.unwritable"
        facts = {"path": folder, "reason": error.strerror or str(error)}
        tell("error", "QuantizeError", code, facts)
        return LucieError.exit_code


def _do(folder: Path, model: Path, stage: str, tell: Any) -> int:
    from accelerate import Accelerator

    from quantize.healing.preparation import prepare
    from quantize.healing.training import train
    from quantize.healing.work import Work

    work = Work(folder)
    accelerator = Accelerator()
    if stage == "train" and accelerator.is_main_process:
        tell("on", accelerator.num_processes, accelerator.device.type)
    do = prepare if stage == "prepare" else train
    done = do(work, model, accelerator, lambda *facts: tell("at", *facts), _left_alone)
    return 0 if done else _STOPPED


def _left_alone() -> bool:
    """Whether stdin has ended; what stands in it is of no interest."""
    readable, _, _ = select.select([0], [], [], 0)
    return bool(readable) and not os.read(0, 1)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
