"""Programs of another Debian, run in its own file system, by namespaces of Linux.

Nothing of this computer is seen in it but what is bound, and no network. Whoever is not root is
root in there, by the subordinate ids that Debian gives each account (`/etc/subuid`).
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from edge.bootstrap.build import run
from edge.workshop import draft_folder
from images.errors import ImageError

__all__ = ["EPOCH", "STEPS", "Room", "as_root", "remove"]

STEPS = Path(__file__).with_name("steps")
"""What is run in rooms."""
EPOCH = "1767225600"
"""All files are of 2026-01-01, in seconds since 1970: who builds again gets the same bytes."""

# Arguments: root, pairs of a source and the place where it is bound, --, program, arguments. Modes
# of what is made there do not depend on who builds.
_ENTER = """
root=$1; shift
umask 022
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
while [ "$1" != -- ]; do
    mkdir -p "$root$2" && mount --bind "$1" "$root$2" || exit
    shift 2
done
shift
exec chroot "$root" "$@"
"""


def as_root(*namespaces: str) -> list[str]:
    """The command that runs another as root, of this computer or in a namespace of users."""
    users = [] if os.geteuid() == 0 else ["--map-root-user", "--map-auto"]
    return ["unshare", *users, *namespaces, "--"]


def remove(folder: Path) -> None:
    """Remove a folder that may hold files of other users.

    Raises:
        ImageError: it is still there.
    """
    if not folder.exists():
        return
    command = [*as_root("--mount"), "rm", "-rf", str(folder)]
    ended = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    if ended.returncode != 0:
        reason = (ended.stderr.strip().splitlines() or [f"exit {ended.returncode}"])[-1]
        raise ImageError("build.no-remove", path=str(folder), reason=reason)


class Room:
    """The file system of a Debian for this computer's processor.

    Args:
        root: its folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def command(self, program: Sequence[str], binds: Mapping[str, Path]) -> list[str]:
        """What runs `program` in it.

        Args:
            program: and its arguments.
            binds: folders of this computer, by where they are in there.

        Raises:
            ImageError: this computer cannot do that.
        """
        if shutil.which("unshare") is None:
            raise ImageError("build.no-unshare")
        bound = [word for place, folder in binds.items() for word in (str(folder), place)]
        enter = ["sh", "-c", _ENTER, "sh", str(self.root), *bound, "--", *program]
        return [*as_root("--mount", "--net", "--pid", "--fork", "--kill-child"), *enter]

    def run(
        self,
        step: str,
        *arguments: str,
        binds: Mapping[str, Path],
        log: Path,
        heard: Callable[[str], object] | None = None,
        title: str | None = None,
    ) -> None:
        """Run a step, as `disk.sh`.

        Args:
            arguments: for it.
            binds: as of `command`.
            log: where all that it says is appended.
            heard: called with each line.
            title: what is being done, for one that counts what it has done.

        Raises:
            BuildError: it failed.
        """
        program = ["sh", f"/steps/{step}.sh", *arguments]
        env = {"SOURCE_DATE_EPOCH": EPOCH, "PATH": "/usr/sbin:/usr/bin", "LC_ALL": "C.UTF-8",
               "TZ": "UTC", "HOME": "/root"}  # fmt: skip
        words = ["env", "-i", *(f"{name}={value}" for name, value in env.items()), *program]
        # What a killed step has left in it goes with the next one's.
        with draft_folder(self.root.with_name("tmp")) as tmp:
            bound = {"/steps": STEPS, "/tmp": tmp, **binds}  # noqa: S108 - it is that of the room
            command = self.command(words, bound)
            run(command, log=log, heard=heard, title=title)
