"""The SSH key that signs updates: what is wrong with it is told before the work, in our words."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from images.errors import ImageError

__all__ = ["in_our_words", "public_half", "signing_key"]

_SAID = {
    "incorrect passphrase": "build.key-wrong-passphrase",
    "bad permissions": "build.key-open-to-others",
    "No such file or directory": "build.key-missing",
    "Not a directory": "build.key-missing",
    "Permission denied": "build.key-unreadable",
    "No private key found": "build.key-no-private",
    "is not a public key file": "build.key-none",
    "error in libcrypto": "build.key-none",
    "invalid format": "build.key-none",
}
"""What OpenSSH's last line holds, and the entry of locale/build.toml that says it. It speaks
English only; what is not known here is told as it says it."""
_NOT_KNOWN = "update.no-key"


@contextmanager
def in_our_words() -> Iterator[None]:
    """Say what OpenSSH says of a key in the user's language, where it is known.

    Raises:
        ImageError: that.
    """
    try:
        yield
    except ImageError as error:
        if error.code != _NOT_KNOWN:
            raise
        raise _fault(error.facts["path"], error.facts["reason"]) from error


def public_half(key: Path) -> str:
    """The public half of a key, either half of which is named, in one line.

    Raises:
        ImageError: it is no SSH key, or cannot be read; there is no ssh-keygen.
    """
    from images.building.update import public_key

    with in_our_words():
        return public_key(key)


def signing_key(key: Path) -> str:
    """Refuse a key that cannot sign, before there is anything to sign.

    Args:
        key: either half; a public one, where an agent has its other half or that lies beside it.

    Returns:
        Its public half, in one line.

    Raises:
        ImageError: as of `public_half`; it has a passphrase that nobody can be asked for; the
            private half is not here.
    """
    public = public_half(key)
    if _in_agent(public):
        return public
    private = key.with_suffix("") if key.suffix == ".pub" else key
    if private != key and not private.exists():
        raise ImageError("build.key-no-private", path=str(key))
    command = ["ssh-keygen", "-y", "-P", "", "-f", str(private)]
    ended = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if ended.returncode != 0:
        reason = (ended.stderr.strip().splitlines() or [str(ended.returncode)])[-1]
        fault = _fault(str(private), reason)
        if fault.code != "build.key-wrong-passphrase":  # that one is still to be asked for
            raise fault
    return public


def _fault(path: str, reason: str) -> ImageError:
    code = next((code for words, code in _SAID.items() if words in reason), _NOT_KNOWN)
    if Path(path).is_dir():  # OpenSSH finds fault with its permissions
        code = "build.key-none"
    if code == "build.key-wrong-passphrase" and not _can_ask():
        code = "build.key-passphrase"
    return ImageError(code, path=path, reason=reason)


def _in_agent(public: str) -> bool:
    """Whether an agent signs for it; OpenSSH asks that first."""
    command = ["ssh-add", "-L"]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return False
    return public.split()[1] in listed.stdout.split()


def _can_ask() -> bool:
    """Whether OpenSSH can ask for a passphrase: on a terminal, or in a window of its own."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        screens = ("DISPLAY", "WAYLAND_DISPLAY", "SSH_ASKPASS_REQUIRE")
        return bool(os.environ.get("SSH_ASKPASS")) and any(map(os.environ.get, screens))
    return True
