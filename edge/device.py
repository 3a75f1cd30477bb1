"""What this machine is: board, processor, memory, heat, as far as Linux tells without privileges.

Everything is read from files below a root, so that tests can show other boards; the one
exception is `vcgencmd`, a Raspberry Pi's own program, which is asked on the real root only.
What a control group grants counts, not what the machine has: a container of 1 GB on a server
is a small machine.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from edge import cgroup
from edge.messages import text

__all__ = ["Cpu", "Device", "Memory", "Remark", "detect"]

_ROOT = Path("/")
_BITS = {0: "under-voltage", 1: "capped", 2: "throttled", 3: "soft-limit"}
"""`get_throttled` (raspberrypi.com, "vcgencmd"); the same 16 bits higher: since it was started."""
_SENSORS = ("cpu-thermal", "cpu_thermal", "x86_pkg_temp", "soc-thermal", "acpitz")
"""Thermal zones that are the processor's, the surest first."""
_ARM_PARTS = {
    "0xd03": "Cortex-A53",
    "0xd05": "Cortex-A55",
    "0xd07": "Cortex-A57",
    "0xd08": "Cortex-A72",
    "0xd0a": "Cortex-A75",
    "0xd0b": "Cortex-A76",
    "0xd0c": "Neoverse-N1",
    "0xd40": "Neoverse-V1",
}
_SHOWN = {
    "asimd": "NEON",
    "asimddp": "dotprod",
    "asimdhp": "fp16",
    "i8mm": "i8mm",
    "sve": "SVE",
    "avx": "AVX",
    "avx2": "AVX2",
    "fma": "FMA",
    "avx512f": "AVX-512",
    "avx512_vnni": "VNNI",
    "amx_int8": "AMX",
}
"""Features that llama.cpp has kernels for, by Linux's names."""


@dataclass(frozen=True, slots=True)
class Remark:
    """Something to tell a person, in the language of their screen."""

    code: str
    facts: dict[str, Any]

    def __str__(self) -> str:
        return text(self.code, **self.facts)


@dataclass(frozen=True, slots=True)
class Cpu:
    """The processor, and how much of it this process may use."""

    arch: str
    """As `uname -m`."""
    name: str
    """"" where it is not told."""
    cores: int
    """Physical cores that this process may use, 1 at least."""
    threads: int
    """Logical processors that it may use; on most boards the same."""
    online: int
    """Logical processors that the machine has."""
    flags: frozenset[str]
    """All features, by Linux's names."""

    @property
    def features(self) -> tuple[str, ...]:
        """Those that make a difference here, by their usual names."""
        return tuple(name for flag, name in _SHOWN.items() if flag in self.flags)


@dataclass(frozen=True, slots=True)
class Memory:
    """Main memory, in bytes."""

    total: int
    """What there is, or what the control group grants if that is less."""
    available: int
    """What can be taken without swapping."""
    limited: bool
    """Whether a control group grants less than there is."""
    swap_total: int
    swap_used: int
    zram: bool
    """Whether swap is compressed memory, rather than a card that it would wear out."""


@dataclass(frozen=True, slots=True)
class Device:
    """This machine at this moment."""

    board: str
    """As its firmware calls it; "" where it does not."""
    cpu: Cpu
    memory: Memory
    temperature: float | None
    """Of the processor, in °C."""
    throttled: frozenset[str] | None
    """Of `under-voltage`, `capped`, `throttled`, `soft-limit`, what holds now, and with
    `-before`, what held since the start; None where only heat or nothing is told."""
    pressure: float | None
    """Share of the last 10 s in which something waited for memory (PSI), in percent."""

    @classmethod
    def started(
        cls, board: str, arch: str, processor: str, flags: frozenset[str], *, total: int, taken: int
    ) -> Self:
        """A board of four cores as the runtime finds it after a start, for those who have none.

        Args:
            board: its name.
            arch: as `uname -m`.
            processor: its name.
            flags: its features, by Linux's names.
            total: its main memory, in bytes.
            taken: what the system takes of it, in bytes.
        """
        left = max(0, total - taken)
        return cls(
            board=board,
            cpu=Cpu(arch, processor, cores=4, threads=4, online=4, flags=flags),
            memory=Memory(total, left, limited=False, swap_total=0, swap_used=0, zram=False),
            temperature=None,
            throttled=None,
            pressure=None,
        )

    @property
    def is_pi(self) -> bool:
        """Whether it is a Raspberry Pi."""
        return self.board.startswith("Raspberry Pi")

    @property
    def warnings(self) -> tuple[Remark, ...]:
        """What makes it slower than it could be."""
        return tuple(_warnings(self))


def detect(root: Path = _ROOT) -> Device:
    """What the machine whose file system is at `root` is, and how it is doing."""
    board = _board(root)
    return Device(
        board=board,
        cpu=_cpu(root),
        memory=_memory(root),
        temperature=_temperature(root),
        throttled=_throttled(root, board),
        pressure=_pressure(root),
    )


def _read(path: Path) -> str | None:
    """A small file of /proc or /sys; None where it is not there, or not for us."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip("\0 \n\t")
    except OSError:
        return None


def _board(root: Path) -> str:
    for model in ("proc/device-tree/model", "sys/firmware/devicetree/base/model"):
        if name := _read(root / model):
            return _plain(name)
    dmi = root / "sys/class/dmi/id"
    return _plain(" ".join(_read(dmi / name) or "" for name in ("sys_vendor", "product_name")))


def _plain(name: str) -> str:
    """One line of what a firmware says."""
    return " ".join("".join(char if char.isprintable() else " " for char in name).split())[:64]


# --- processor ------------------------------------------------------------------------------


def _cpu(root: Path) -> Cpu:
    processors = list(_processors(_read(root / "proc/cpuinfo") or ""))
    first = processors[0] if processors else {}
    allowed = _allowed(root, len(processors))
    used = [p for p in processors if int(p.get("processor", "0")) in allowed] or [{}]
    # Where no core is told, as on ARM, each processor is one.
    cores = {(p.get("physical id"), p.get("core id", p.get("processor"))) for p in used}
    quota = cgroup.cpu_quota(root) or len(used)
    flags = (first.get("flags") or first.get("Features") or "").split()
    return Cpu(
        arch=_arch(root, flags),
        name=_plain(first.get("model name") or _ARM_PARTS.get(first.get("CPU part", ""), "")),
        cores=max(1, min(len(cores), quota)),
        threads=max(1, min(len(used), quota)),
        online=max(1, len(processors)),
        flags=frozenset(flags),
    )


def _arch(root: Path, flags: list[str]) -> str:
    if root == _ROOT:
        return os.uname().machine
    return "x86_64" if "lm" in flags else "aarch64" if "asimd" in flags else "armv7l"


def _processors(cpuinfo: str) -> Iterator[dict[str, str]]:
    for block in cpuinfo.split("\n\n"):
        pairs = (line.partition(":") for line in block.splitlines())
        processor = {key.strip(): value.strip() for key, _, value in pairs}
        if processor.get("processor", "").isdigit():
            yield processor


def _allowed(root: Path, n: int) -> set[int]:
    """Processors on which this process may run (affinity, cpusets)."""
    said = re.search(
        r"^Cpus_allowed_list:\s*(\S+)", _read(root / "proc/self/status") or "", re.MULTILINE
    )
    if not said:
        return set(range(n))
    ends = [part.partition("-") for part in said[1].split(",")]
    return {cpu for low, _, high in ends for cpu in range(int(low), int(high or low) + 1)}


# --- memory ---------------------------------------------------------------------------------


def _memory(root: Path) -> Memory:
    lines = (_read(root / "proc/meminfo") or "").splitlines()
    pairs = (re.match(r"(\w+):\s*(\d+) kB", line) for line in lines)
    info = {found[1]: int(found[2]) * 1024 for found in pairs if found}
    total = info.get("MemTotal", 0)
    available = info.get("MemAvailable", 0)
    # Without a limit of its own, a group of version 1 tells one that no machine has.
    limits = [(limit, room) for limit, room in cgroup.memory_limits(root) if limit < total]
    limited = bool(limits)
    for limit, room in limits:
        total, available = min(total, limit), min(available, room)
    swap_total = info.get("SwapTotal", 0)
    return Memory(
        total=total,
        available=max(0, available),
        limited=limited,
        swap_total=swap_total,
        swap_used=swap_total - info.get("SwapFree", 0),
        zram="/dev/zram" in (_read(root / "proc/swaps") or ""),
    )


# --- state ----------------------------------------------------------------------------------


def _temperature(root: Path) -> float | None:
    found: dict[str, float] = {}
    for zone in sorted((root / "sys/class/thermal").glob("thermal_zone*")):
        kind, millidegrees = _read(zone / "type"), _read(zone / "temp")
        if kind and millidegrees and millidegrees.lstrip("-").isdigit():
            found.setdefault(kind, int(millidegrees) / 1000)
    return next((found[kind] for kind in _SENSORS if kind in found), None)


def _throttled(root: Path, board: str) -> frozenset[str] | None:
    said = _vcgencmd() if root == _ROOT and board.startswith("Raspberry Pi") else None
    if said is None:
        devices = root / "sys/devices/platform"
        files = [*devices.glob("soc*/*firmware/get_throttled"), *devices.glob("*/get_throttled")]
        said = next((said for said in map(_read, files) if said), None)
    try:
        bits = int(said or "", 16)
    except ValueError:
        return None
    now = {name for bit, name in _BITS.items() if bits >> bit & 1}
    return frozenset(
        now | {f"{name}-before" for bit, name in _BITS.items() if bits >> bit + 16 & 1}
    )


def _vcgencmd() -> str | None:
    program = shutil.which("vcgencmd")
    if program is None:
        return None
    try:
        asked = subprocess.run(
            [program, "get_throttled"], capture_output=True, text=True, timeout=2, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.match(r"throttled=(0x[0-9a-fA-F]+)", asked.stdout)
    return found[1] if found else None


def _pressure(root: Path) -> float | None:
    found = re.search(
        r"^some avg10=([\d.]+)", _read(root / "proc/pressure/memory") or "", re.MULTILINE
    )
    return float(found[1]) if found else None


_HOT_C = 80
"""Raspberry Pis slow down from 80 °C on, more and more until 85 (raspberrypi.com,
"Frequency management and thermal control")."""
_PRESSED = 5


def _warnings(device: Device) -> Iterator[Remark]:
    held = device.throttled or frozenset()
    for name in ("under-voltage", "throttled", "soft-limit", "capped"):
        if name in held:
            yield Remark(f"device.{name}", {})
            break
    else:
        if "under-voltage-before" in held:
            yield Remark("device.under-voltage-before", {})
        elif held:
            yield Remark("device.throttled-before", {})
    if device.temperature is not None and device.temperature >= _HOT_C:
        yield Remark("device.hot", {"celsius": round(device.temperature)})
    memory = device.memory
    if memory.swap_used > memory.swap_total / 2 and not memory.zram:
        yield Remark("device.swapping", {"used": memory.swap_used // 1_000_000})
    if device.pressure is not None and device.pressure >= _PRESSED:
        yield Remark("device.pressure", {"percent": round(device.pressure)})
