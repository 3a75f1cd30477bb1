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

from edge.errors import CheckpointError, LucieError
from edge.text import one_line
from quantize.errors import QuantizeError, QuantizeUsageError
from quantize.healing.work import Work

__all__ = ["run"]

_ERRORS: dict[str, type[LucieError]] = {
    kind.__name__: kind for kind in (CheckpointError, QuantizeError, QuantizeUsageError)
}
Told = Callable[..., object]
Note = Callable[..., object]
"""Called with a code of `heal`'s texts and its facts."""


def run(
    work: Work,
    source: Path,
    stage: str,
    told: Told,
    *,
    launch: Sequence[str] | None = None,
    threads: int = 0,
    note: Note = lambda *_, **__: None,
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
        note: told `stopping` when it has been asked to stop, and may take a while to; and,
            of what was started by a launcher, `on` how many processes and what it runs.

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
            _attend(child, told, note)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
    if child.returncode == -signal.SIGKILL:
        raise QuantizeError("heal.killed")
    if child.returncode:
        raise QuantizeError(
            "heal.died", log=str(work.log), status=child.returncode, reason=_last_line(work.log)
        )


def _attend(child: subprocess.Popen[str], told: Told, note: Note) -> None:
    assert child.stdin is not None and child.stdout is not None  # noqa: S101, PT018 - asked for
    try:
        _listen(child.stdout, told, note)
    except KeyboardInterrupt:
        note("stopping")
        child.stdin.close()  # which it understands
        _listen(child.stdout, told, note)
        raise
    child.wait()


def _listen(stdout: IO[str], told: Told, note: Note) -> None:
    for line in stdout:
        try:
            kind, *facts = json.loads(line)
        except (ValueError, TypeError):  # a launcher's own words
            continue
        if kind == "at":
            told(*facts)
        elif kind == "on":
            processes, device = facts
            note("on", processes=processes, device=device)
        else:
            name, code, more = facts
            raise _ERRORS.get(name, QuantizeError)(code, **more)


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    return one_line(next((line for line in reversed(lines) if line.strip()), "-"))
