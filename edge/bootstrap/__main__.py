"""`python3 -m edge.bootstrap GOAL`: set up what GOAL needs, then do it.

Goals: `chat` (with LUCIE_PROMPT in the environment: answer it once and exit), `ready` (set up
only), `bench` (set up only, with what measures) and `test` (with the tools that tests need).
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from pathlib import Path

from edge.bootstrap import environment, llamacpp, programs
from edge.bootstrap.build import say
from edge.bootstrap.moving import show
from edge.errors import InterruptedByUserError, LucieError

__all__ = ["main"]

_GOALS = {"chat": (), "ready": (), "bench": ("dev",), "test": ("dev",)}
"""The extras that each goal needs."""


def main(goal: str) -> None:
    """Set up, then become the program that was asked for; exits with a code if that fails."""
    # So that being ended stops compilers as well: an exception passes through `build.run`.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        if goal == "test":
            programs.require()
        program = environment.prepare(Path(__file__).resolve().parents[2], _GOALS[goal])
    except KeyboardInterrupt:
        sys.exit(InterruptedByUserError.exit_code)
    except LucieError as error:
        show(str(error))
        sys.exit(error.exit_code)
    except OSError as error:
        code = "no-space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "unwritable"
        path = error.filename or llamacpp.cache_dir()
        say(code, path=path, reason=error.strerror)
        sys.exit(LucieError.exit_code)
    os.execv(program, [str(program), "-m", "edge.bootstrap.start", goal])


if __name__ == "__main__":
    main(*sys.argv[1:])
