"""Calling the process that heals, and listening to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from edge.attended import DiedError, attend
from edge.errors import CheckpointError
from quantize.errors import QuantizeError, QuantizeUsageError
from quantize.healing.work import Work

__all__ = ["Note", "run"]

_ERRORS = {kind.__name__: kind for kind in (CheckpointError, QuantizeError, QuantizeUsageError)}
Note = Callable[..., object]
"""Called with a code of `heal`'s texts and its facts."""


def run(
    work: Work,
    source: Path,
    stage: str,
    told: Callable[..., object],
    *,
    launch: Sequence[str] | None = None,
    threads: int = 0,
    note: Note = lambda *_, **__: None,
) -> None:
    """Do a stage of healing in a process of its own, to its end.

    Ctrl-C lets it finish what it is at and save, and a second one ends it at once; so does the
    first, where it has not begun.

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

    begun = False

    def heard(word: str, *facts: object) -> None:
        nonlocal begun
        if word == "at":
            begun = True
            told(*facts)
        else:
            processes, device = facts
            note("on", processes=processes, device=device)

    def stopping() -> None:
        if not begun:  # torch is being imported, and there is nothing to save
            raise KeyboardInterrupt
        note("stopping")

    try:
        attend(
            program,
            work.log,
            heard,
            stopping=stopping,
            errors=_ERRORS,
            environment={"OMP_NUM_THREADS": str(threads)} if threads else None,
        )
    except DiedError as error:
        if error.killed:
            raise QuantizeError("heal.killed") from error
        raise QuantizeError("heal.died", log=str(work.log), **error.facts) from error
