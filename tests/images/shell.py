"""A shell of root's in a machine, beside the chat: what no screen shows, and no card lets ask.

A second initrd, unpacked before that of the card, lays the shell over the root file system, in the
layer that is in memory: nothing of the card is changed. It talks on a serial line of its own.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path

from images.booting.machine import Started

SERIAL = ("-serial", "unix:shell.sock,server=on,wait=off")
"""For QEMU: the line of the shell, in the folder of the machine."""
_UNIT = "etc/systemd/system/shell.service"
_WANTED = "etc/systemd/system/multi-user.target.wants/shell.service"
_SERVICE = """\
[Unit]
DefaultDependencies=no

[Service]
ExecStart=/bin/sh -c 'stty raw -echo; exec sh /dev/stdin'
StandardInput=tty-force
StandardOutput=tty
StandardError=tty
TTYPath=/dev/{line}
"""
_SWITCH = 'exec switch_root /root "$init"'


def lay(started: Started, line: str, files: Mapping[str, str]) -> None:
    """Have the shell in a machine, from its next start on.

    Args:
        line: the second serial port, as Linux names it.
        files: what is laid over the root file system beside it.
    """
    init = Path("images/board/init").read_text(encoding="utf-8")
    assert init.count(_SWITCH) == 1
    more = started.folder / "more"
    laid = {"init-more": init.replace(_SWITCH, f"cp -R /laid/. /root\n{_SWITCH}"),
            f"laid/{_UNIT}": _SERVICE.format(line=line),
            **{f"laid/{name}": text for name, text in files.items()}}  # fmt: skip
    for name, text in laid.items():
        (more / name).parent.mkdir(parents=True, exist_ok=True)
        (more / name).write_text(text, encoding="utf-8")
    (more / "init-more").chmod(0o755)
    wanted = more / "laid" / _WANTED
    wanted.parent.mkdir(parents=True, exist_ok=True)
    wanted.symlink_to(f"/{_UNIT}")
    packed = (
        "cd /card/more && find . | cpio -oR 0:0 -H newc --quiet > ../more.cpio && cd .. &&"
        " cat more.cpio initrd > both && mv both initrd"
    )
    command = started.room.command(["sh", "-c", packed], {"/card": started.folder})
    subprocess.run(command, check=True)
    words = started.folder / "cmdline.txt"
    words.write_text(f"{words.read_text().strip()} rdinit=/init-more\n")


class Shell:
    """What is typed into it, and what it says.

    Args:
        folder: of the machine, which has started.
        patience_s: for the start, and for each command.
    """

    def __init__(self, folder: Path, patience_s: float) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(patience_s)
        self._socket.connect(os.path.relpath(folder / "shell.sock"))  # of 108 bytes at most
        self._said = ""

    def _until(self, pattern: str) -> re.Match[str]:
        while (found := re.search(pattern, self._said)) is None:
            heard = self._socket.recv(4096)
            assert heard, self._said
            self._said += heard.decode(errors="replace")
        self._said = self._said[found.end() :]
        return found

    def run(self, command: str) -> str:
        """What a command says, which has to succeed."""
        self._socket.sendall(f"({command}) 2>&1 </dev/null; echo :end:$?:\n".encode())
        found = self._until(r"(?s)^(.*?):end:(\d+):\n")
        assert found[2] == "0", f"{command}: {found[1]}"
        return found[1]

    def close(self) -> None:
        self._socket.close()
