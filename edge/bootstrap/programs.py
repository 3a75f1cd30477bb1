"""Programs of the system that the tests drive."""

from __future__ import annotations

import os
import shutil
import subprocess

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
_FOR_THE_PAGE = {
    "chromium": ("chromium", "chromium-browser", "google-chrome"),
    "nodejs": ("node",),
}
"""Package and programs, any of which does: tests of the web page, skipped where there is none.

220 MB, some 790 installed and a minute and a half: a bare machine gets them with the others, and
nobody is asked for them.
"""


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
        run([*install, *_for_the_page()], log=log, env={"DEBIAN_FRONTEND": "noninteractive"})
    except BuildError as error:
        raise LucieError("bootstrap.no-programs", packages=names) from error


def _for_the_page() -> list[str]:
    """What is missing of it and can be had here: Ubuntu has no package of a browser."""
    return [
        package
        for package, programs in _FOR_THE_PAGE.items()
        if not any(map(shutil.which, programs)) and _is_known(package)
    ]


def _is_known(package: str) -> bool:
    command = ["apt-cache", "show", package]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0
