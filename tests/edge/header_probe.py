"""Checks GGUF files, each in a process of its own, and tells how much its memory grew.

    python -m tests.edge.header_probe FILE...

prints for each file `<bytes> <code of the error, or passes>`.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from edge.errors import LucieError
from edge.gguf_header import read_header


def resident_peak() -> int:
    """Bytes of memory that this process has had at most."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


def main(paths: list[str]) -> None:
    for path in paths:
        pid = os.fork()
        if pid == 0:
            before = resident_peak()
            try:
                read_header(Path(path))
                code = "passes"
            except LucieError as error:
                code = error.code
            os.write(1, f"{resident_peak() - before} {code}\n".encode())
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0, path


if __name__ == "__main__":
    main(sys.argv[1:])
