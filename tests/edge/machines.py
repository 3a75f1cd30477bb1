"""Trees of /proc and /sys as they are on some machines, for `edge.device.detect`."""

from __future__ import annotations

from pathlib import Path

__all__ = ["LAPTOP", "PI_3", "PI_4", "PI_5", "PI_ZERO_2", "arm", "meminfo", "plant"]

Tree = dict[str, str]

_A53 = "fp asimd evtstrm crc32 cpuid"
_A72 = "fp asimd evtstrm crc32 cpuid"
_A76 = (
    "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc "
    "dcpop asimddp"
)


def plant(root: Path, *trees: Tree) -> Path:
    """Write the files of `trees` below `root`."""
    for tree in trees:
        for name, content in tree.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
    return root


def arm(features: str, part: str, n: int = 4) -> Tree:
    blocks = [
        f"processor\t: {i}\nBogoMIPS\t: 108.00\nFeatures\t: {features}\n"
        f"CPU implementer\t: 0x41\nCPU architecture: 8\nCPU part\t: {part}\nCPU revision\t: 1\n"
        for i in range(n)
    ]
    return {"proc/cpuinfo": "\n".join([*blocks, "Revision\t: d04170\nSerial\t\t: 0\n"])}


def meminfo(total: int, available: int, swap: tuple[int, int] = (0, 0)) -> Tree:
    """In MiB; swap as (total, free)."""
    rows = {"MemTotal": total, "MemFree": 1, "MemAvailable": available}
    rows |= {"SwapTotal": swap[0], "SwapFree": swap[1]}
    return {"proc/meminfo": "".join(f"{k}:  {v * 1024} kB\n" for k, v in rows.items())}


def _pi(model: str, degrees: int) -> Tree:
    return {
        "proc/device-tree/model": f"{model}\0",
        "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
        "sys/class/thermal/thermal_zone0/temp": f"{degrees}\n",
        "proc/swaps": "Filename\tType\tSize\tUsed\tPriority\n/dev/zram0 partition 1 0 100\n",
    }


_THROTTLED = "sys/devices/platform/soc/soc:firmware/get_throttled"

PI_5 = (
    _pi("Raspberry Pi 5 Model B Rev 1.0", 52100)
    | arm(_A76, "0xd0b")
    | meminfo(8052, 7400, (512, 512))
    | {"sys/devices/platform/soc@107c000000/soc:firmware/get_throttled": "0\n"}
)
PI_4 = (
    _pi("Raspberry Pi 4 Model B Rev 1.5", 61000)
    | arm(_A72, "0xd08")
    | meminfo(3794, 3300)
    | {_THROTTLED: "0\n"}
)
PI_3 = (
    _pi("Raspberry Pi 3 Model B Plus Rev 1.3", 58000)
    | arm(_A53, "0xd03")
    | meminfo(906, 640)
    | {_THROTTLED: "0\n"}
)
PI_ZERO_2 = (
    _pi("Raspberry Pi Zero 2 W Rev 1.0", 49000)
    | arm(_A53, "0xd03")
    | meminfo(416, 290, (415, 400))
    | {_THROTTLED: "0\n"}
)
LAPTOP = meminfo(15800, 9000, (8000, 8000)) | {
    "proc/cpuinfo": "\n".join(
        f"processor\t: {i}\nmodel name\t: Intel(R) Core(TM) i7-8550U CPU @ 1.80GHz\n"
        f"physical id\t: 0\ncore id\t\t: {i % 4}\ncpu cores\t: 4\n"
        "flags\t\t: fpu lm sse3 avx f16c fma avx2\n"
        for i in range(8)
    ),
    "proc/self/status": "Name:\tpython3\nCpus_allowed:\tff\nCpus_allowed_list:\t0-7\n",
    "sys/class/dmi/id/sys_vendor": "LENOVO\n",
    "sys/class/dmi/id/product_name": "20L5CTO1WW\n",
    "sys/class/thermal/thermal_zone0/type": "acpitz\n",
    "sys/class/thermal/thermal_zone0/temp": "27800\n",
    "sys/class/thermal/thermal_zone1/type": "x86_pkg_temp\n",
    "sys/class/thermal/thermal_zone1/temp": "66000\n",
    "proc/pressure/memory": "some avg10=0.00 avg60=0.00 avg300=0.00 total=5\n",
}
