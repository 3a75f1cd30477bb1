"""Who looks after a board: an account, by systemd-sysusers, and its way in over the network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from images.onboard.network import wired
from images.onboard.settings import Settings
from images.onboard.settings_file import Complaint, Places
from images.onboard.tree import File, Tree

__all__ = ["account", "unheeded"]

_HOMES = "/data/home"
"""On the partition that outlives a start."""
_UID = 1000
"""Whoever it is: homes lie on the partition that outlives systems, too."""
_GROUPS = ("sudo", "systemd-journal")
_SHELL = "/bin/bash"


def _has_account(settings: Settings) -> bool:
    """Whether anybody can log in: not without a password and without a key."""
    return bool(settings.user.password or settings.ssh.authorized_keys)


def account(settings: Settings, root: Path) -> Tree:
    """Files that make the account, and let it in; none for one that `root` has itself."""
    user = settings.user
    if not _has_account(settings) or user.name in _names(root):
        return Tree()
    lines = [f'u {user.name} {_UID} "Lucie" {_HOMES}/{user.name} {_SHELL}']
    lines += [f"m {user.name} {group}" for group in sorted({*_GROUPS, *user.groups})]
    files = {
        "etc/sysusers.d/account.conf": File("\n".join(lines) + "\n"),
        "etc/tmpfiles.d/account.conf": File(f"d {_HOMES}/{user.name} 0700 {user.name} -\n"),
    }
    if user.password:
        secret = f"run/lucie-settings/credentials/passwd.hashed-password.{user.name}"
        files[secret] = File(user.password, 0o600)
    if user.passwordless_sudo:
        files["etc/sudoers.d/account"] = File(f"{user.name} ALL=(ALL) NOPASSWD: ALL\n", 0o440)
    return Tree(files) | _ssh(settings)


def _ssh(settings: Settings) -> Tree:
    if not _let_in(settings):
        return Tree()
    name, ssh = settings.user.name, settings.ssh
    keys = "/etc/ssh/authorized_keys.d/%u"
    told = [
        "HostKey /data/ssh/ssh_host_ed25519_key",
        f"AuthorizedKeysFile {keys}",
        f"AllowUsers {name}",
        "PermitRootLogin no",
        "KbdInteractiveAuthentication no",
        f"PasswordAuthentication {'yes' if ssh.password_authentication else 'no'}",
    ]
    files = {
        "etc/ssh/sshd_config.d/lucie.conf": File("\n".join(told) + "\n"),
        f"etc/ssh/authorized_keys.d/{name}": File("".join(f"{k}\n" for k in ssh.authorized_keys)),
    }
    return Tree(files, units=("ssh.service",)) | wired()


def _let_in(settings: Settings) -> bool:
    """Whether somebody can over the network: by a password alone, nobody."""
    return settings.ssh.enabled and bool(settings.ssh.authorized_keys)


def unheeded(settings: Settings, places: Places, root: Path) -> Iterator[Complaint]:
    """What of it is well written and changes nothing."""
    if settings.ssh.enabled and not _let_in(settings):
        yield Complaint("nobody", *places["ssh.enabled"], "ssh.enabled")
    if _has_account(settings) and settings.user.name in _names(root):
        yield Complaint("taken", *places["user.name"], "user.name")


def _names(root: Path) -> set[str]:
    """The accounts that the system has itself."""
    lines = (root / "etc/passwd").read_text(encoding="utf-8").splitlines()
    return {line.partition(":")[0] for line in lines}
