"""The last step of setting up, inside the environment: the model, then what was asked for."""

from __future__ import annotations

import os
import sys

from edge import cli
from edge.store import DEFAULT_MODEL, Store

__all__ = ["main"]


def main(goal: str) -> int:
    """Fetch the default model if it is not here; for `chat`, open it or answer LUCIE_PROMPT.

    The prompt comes by the environment, where no shell and no `make` reads its characters.
    """
    if not Store().holds(DEFAULT_MODEL) and (code := cli.main(["models", "add", DEFAULT_MODEL])):
        return code
    if goal != "chat":
        return 0
    prompt = os.environ.pop("LUCIE_PROMPT", "")
    return cli.main(["run", "--", prompt] if prompt else ["chat"])


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
