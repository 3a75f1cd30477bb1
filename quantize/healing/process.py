"""Calling the process that heals, and listening to it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from edge.errors import LucieError
from edge.text import one_line
from quantize.errors import CheckpointError, QuantizeError, QuantizeUsageError
from quantize.healing.work import Work

__all__ = ["run"]

_ERRORS: dict[str, type[LucieError]] = {
    kind.__name__: kind for kind in (CheckpointError, QuantizeError, QuantizeUsageError)
}
Told = Callable[..., object]


def run(
    work: Work,
    source: Path,
    stage: str,
    told: Told,
    *,
    launch: Sequence[str] | None = None,
    threads: int = 0,
    stopping: Callable[[], object] = lambda: None,
) -> None:
    """Do a stage of healing in a process of its own, to its end.

    Ctrl-C lets it finish what it is at and save, and a second one ends it at once.

    Args:
        work: the folder.
        source: the model folder.
        stage: `prepare` or `train`.
        told: called with what it tells on the way.
        launch: arguments of `accelerate launch`, if that is to start it.
        threads: threads to compute with; 0: one for each core.
        stopping: called when it has been asked to stop, and may take a while to.

    Raises:
        LucieError: which it raised.
        QuantizeError: it ended before its work did.
    """
    program = ["-m", "quantize.healing", str(work.folder.absolute()), str(source.absolute()), stage]
    if launch is not None:
        program = ["-m", "accelerate.commands.launch", *launch, *program]
    # Nothing is imported from the folder that the user is in.
    environment = {**os.environ, "PYTHONSAFEPATH": "1"}
    if threads:
        environment["OMP_NUM_THREADS"] = str(threads)
    with (
        work.log.open("ab") as log,
        subprocess.Popen(
            [sys.executable, *program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            encoding="utf-8",
            env=environment,
            process_group=0,
        ) as child,
    ):
        try:
            _attend(child, told, stopping)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
    if child.returncode == -signal.SIGKILL:
        raise QuantizeError("heal.killed")
    if child.returncode:
        raise QuantizeError(
            "heal.died", log=str(work.log), status=child.returncode, reason=_last_line(work.log)
        )


def _attend(child: subprocess.Popen[str], told: Told, stopping: Callable[[], object]) -> None:
    assert child.stdin is not None and child.stdout is not None  # noqa: S101, PT018 - asked for
    try:
        _listen(child.stdout, told)
    except KeyboardInterrupt:
        stopping()
        child.stdin.close()  # which it understands
        _listen(child.stdout, lambda *_: None)
        raise
    child.wait()


def _listen(stdout: IO[str], told: Told) -> None:
    for line in stdout:
        kind, *facts = json.loads(line)
        if kind == "error":
            name, code, more = facts
            raise _ERRORS.get(name, QuantizeError)(code, **more)
        told(*facts)


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    return one_line(next((line for line in reversed(lines) if line.strip()), "-"))
