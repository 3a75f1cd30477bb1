"""Every error that a person may read, as one tree.

    LucieError                  exit 1, HTTP 500
    ├── UsageError              exit 2, HTTP 400   the request or command is wrong
    │   └── ContextFullError            HTTP 400   one message alone is longer than the window
    ├── ModelError                                 a model is missing, damaged or not understood
    │   ├── UnknownModelError           HTTP 404
    │   ├── DamagedModelError
    │   └── CheckpointError
    ├── MemoryRefusedError              HTTP 507   it would not fit, so it was not loaded
    ├── EngineError                     HTTP 503   the engine died, is busy or will not start
    │   └── ModelChangedError                      the model file changed under it
    ├── ServerError                                a server could not be reached or said no
    ├── StoreError                                 a download or the models folder
    ├── HistoryError                               the conversations' database
    └── InterruptedByUserError  exit 130

An error carries a *code* and *facts*, not a sentence: `code` names an entry of
`edge/locale`, so the same error reads in French on a French screen and travels
over HTTP as data. It is raised where it is understood and shown once, at the top.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from edge.messages import FOLDER, translate

__all__ = [
    "CheckpointError",
    "ContextFullError",
    "DamagedModelError",
    "EngineError",
    "HistoryError",
    "InterruptedByUserError",
    "LucieError",
    "MemoryRefusedError",
    "ModelChangedError",
    "ModelError",
    "ServerError",
    "StoreError",
    "UnknownModelError",
    "UsageError",
]


class LucieError(Exception):
    """Something that a person can understand and act on.

    Args:
        code: entry of `folder`, as `subject.what-happened`.
        facts: values for the placeholders of that entry; JSON-able.
    """

    exit_code: ClassVar[int] = 1
    status: ClassVar[int] = 500
    folder: ClassVar[Path] = FOLDER
    """Where its texts are; another package's errors have their own."""

    def __init__(self, code: str, **facts: Any) -> None:
        super().__init__(code, facts)
        self.code = code
        self.facts = facts

    def __str__(self) -> str:
        return translate(self.code, self.facts, folder=self.folder)


class UsageError(LucieError):
    """The command or the request is wrong as written."""

    exit_code = 2
    status = 400


class ContextFullError(UsageError):
    """One message alone does not fit the context window."""


class ModelError(LucieError):
    """A model is missing, damaged, or of a kind that no engine here runs."""


class UnknownModelError(ModelError):
    """No model of that name or path is on this device."""

    status = 404


class DamagedModelError(ModelError):
    """A model file contradicts itself, its size or its hash."""


class CheckpointError(ModelError):
    """A Hugging Face folder is incomplete, damaged, or of an architecture that is not read."""


class MemoryRefusedError(LucieError):
    """Loading would need more memory than is available, so it was not tried."""

    status = 507


class EngineError(LucieError):
    """The engine died, cannot start, or refuses what was asked of it."""

    status = 503


class ModelChangedError(EngineError):
    """The file of a loaded model was written to: what was computed from it is worth nothing."""


class ServerError(LucieError):
    """A server cannot be reached, or answered with an error of its own."""


class StoreError(LucieError):
    """A download failed, or the models folder cannot be read or written."""


class HistoryError(LucieError):
    """The conversations' database cannot be opened or written."""


class InterruptedByUserError(LucieError):
    """The user pressed Ctrl-C or the terminal went away."""

    exit_code = 130
