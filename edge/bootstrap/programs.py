"""Programs of the system that the tests drive."""

from __future__ import annotations

import os
import shutil

from edge.bootstrap.build import BuildError, run
from edge.bootstrap.llamacpp import cache_dir
from edge.errors import LucieError
from edge.messages import text

__all__ = ["require"]

_PACKAGES = {
    "ip": "iproute2",
    "mmdebstrap": "mmdebstrap",
    "strace": "strace",
    "tmux": "tmux",
    "unshare": "util-linux",
}
"""Program and the Debian package that has it."""


def require() -> None:
    """Install what is missing where that can be done without asking: as root, by apt.

    Raises:
        LucieError: something is missing and the user has to install it; the text says how.
    """
    missing = [package for name, package in _PACKAGES.items() if shutil.which(name) is None]
    if not missing:
        return
    names = " ".join(missing)
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise LucieError("bootstrap.no-programs", packages=names)
    log = cache_dir() / "build" / "programs.log"
    log.unlink(missing_ok=True)
    install = ["apt-get", "install", "-y", "--no-install-recommends", *missing]
    try:
        run(["apt-get", "update"], log=log, title=text("bootstrap.programs"))
        run(install, log=log, env={"DEBIAN_FRONTEND": "noninteractive"})
    except BuildError as error:
        raise LucieError("bootstrap.no-programs", packages=names) from error
