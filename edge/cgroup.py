"""What control groups, of version 1 or 2, grant this process: processors and memory."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

__all__ = ["cpu_quota", "memory_limits"]


def cpu_quota(root: Path) -> int | None:
    """Whole processors' worth of time that is granted, 1 at least; None: no limit.

    Args:
        root: where the file system begins, `/` for this machine.
    """
    quotas = []
    for group in _groups(root, "cpu"):
        if limit := _read(group / "cpu.max"):
            quota, _, period = limit.partition(" ")
        else:
            quota = _read(group / "cpu.cfs_quota_us") or ""
            period = _read(group / "cpu.cfs_period_us") or ""
        if quota.isdigit() and period.isdigit() and int(period):
            quotas.append(int(quota) / int(period))
    return max(1, int(min(quotas))) if quotas else None


def memory_limits(root: Path) -> Iterator[tuple[int, int]]:
    """Limit and room of each group, in bytes. Cached files count as room, as in MemAvailable.

    Args:
        root: where the file system begins.
    """
    for group in _groups(root, "memory"):
        for most, used in (
            ("memory.max", "memory.current"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes"),
        ):
            limit, usage = _number(group / most), _number(group / used)
            if limit is not None and usage is not None:
                stat = _read(group / "memory.stat") or ""
                # Version 1 also tells its own pages without those of groups below.
                prefix = "total_" if "total_inactive_file" in stat else ""
                cached = re.findall(rf"^{prefix}(?:in)?active_file (\d+)", stat, re.MULTILINE)
                yield limit, limit - usage + sum(map(int, cached))


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """Folders of the control groups that this process is in, of version 1 and of 2.

    A container often sees its own group as the root whatever /proc calls it, so every
    folder on the way up is looked at; limits of outer groups hold as well.
    """
    for line in (_read(root / "proc/self/cgroup") or "").splitlines():
        _, names, path = line.split(":", 2)
        if names and controller not in names.split(","):
            continue
        mount = root / "sys/fs/cgroup"
        for folder in (mount / names, mount / controller) if names else (mount,):
            group = folder / path.strip("/")
            while group.is_relative_to(folder):
                yield group
                group = group.parent


def _read(path: Path) -> str | None:
    """A file of /proc or /sys; None where it is not there, or not for us."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None


def _number(path: Path) -> int | None:
    said = _read(path)
    return int(said) if said and said.isdigit() else None
