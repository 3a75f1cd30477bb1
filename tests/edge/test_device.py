from __future__ import annotations

import os
from pathlib import Path

import pytest

from edge.device import Device, detect
from tests.edge.machines import LAPTOP, PI_3, PI_4, PI_5, PI_ZERO_2, Tree, meminfo, plant

MIB = 1 << 20


def device(root: Path, *trees: Tree) -> Device:
    return detect(plant(root, *trees))


def codes(found: Device) -> list[str]:
    return [remark.code.removeprefix("device.") for remark in found.warnings]


@pytest.mark.parametrize(
    ("tree", "board", "name", "features"),
    [
        (PI_5, "Raspberry Pi 5 Model B Rev 1.0", "Cortex-A76", ("NEON", "dotprod", "fp16")),
        (PI_4, "Raspberry Pi 4 Model B Rev 1.5", "Cortex-A72", ("NEON",)),
        (PI_3, "Raspberry Pi 3 Model B Plus Rev 1.3", "Cortex-A53", ("NEON",)),
        (PI_ZERO_2, "Raspberry Pi Zero 2 W Rev 1.0", "Cortex-A53", ("NEON",)),
    ],
)
def test_boards_are_known_by_what_their_firmware_says(
    tmp_path: Path, tree: Tree, board: str, name: str, features: tuple[str, ...]
) -> None:
    found = device(tmp_path, tree)
    assert found.board == board
    assert found.is_pi
    cpu = found.cpu
    assert (cpu.arch, cpu.name, cpu.cores, cpu.threads) == ("aarch64", name, 4, 4)
    assert cpu.features == features
    assert found.throttled == frozenset()
    assert found.memory.zram
    assert found.temperature is not None
    assert codes(found) == []


def test_a_laptop(tmp_path: Path) -> None:
    found = device(tmp_path, LAPTOP)
    assert found.board == "LENOVO 20L5CTO1WW"
    assert (found.cpu.cores, found.cpu.threads, found.cpu.online) == (4, 8, 8)
    assert found.cpu.features == ("AVX", "AVX2", "FMA")
    assert found.temperature == 66.0  # of the processor, not of the mainboard
    assert found.throttled is None
    assert (found.memory.total, found.memory.available) == (15800 * MIB, 9000 * MIB)
    assert not found.is_pi


def test_a_machine_that_tells_nothing_is_still_a_machine(tmp_path: Path) -> None:
    found = detect(tmp_path)
    assert (found.board, found.cpu.cores, found.memory.available) == ("", 1, 0)
    assert (found.temperature, found.throttled, found.pressure) == (None, None, None)


def test_only_processors_that_we_may_use_count(tmp_path: Path) -> None:
    two = {"proc/self/status": "Cpus_allowed_list:\t0,4-5\n"}
    found = device(tmp_path, LAPTOP, two)  # 0 and 4 are one core, 5 is another
    assert (found.cpu.cores, found.cpu.threads, found.cpu.online) == (2, 3, 8)


@pytest.mark.parametrize(
    ("quota", "cores"),
    [("max 100000", 4), ("200000 100000", 2), ("150000 100000", 1), ("1000 100000", 1), ("?", 4)],
)
def test_a_quota_of_version_2_bounds_the_cores(tmp_path: Path, quota: str, cores: int) -> None:
    found = device(
        tmp_path,
        PI_5,
        {
            "proc/self/cgroup": "0::/system.slice/lucie.service\n",
            "sys/fs/cgroup/system.slice/lucie.service/cpu.max": "max 100000\n",
            "sys/fs/cgroup/system.slice/cpu.max": f"{quota}\n",  # the outer group's holds too
        },
    )
    assert found.cpu.cores == cores


def test_a_quota_of_version_1_bounds_the_cores(tmp_path: Path) -> None:
    folder = "sys/fs/cgroup/cpu,cpuacct/docker/x"
    tree = {
        "proc/self/cgroup": "4:cpu,cpuacct:/docker/x\n3:memory:/docker/x\n1:name=systemd:/\n",
        f"{folder}/cpu.cfs_quota_us": "300000\n",
        f"{folder}/cpu.cfs_period_us": "100000\n",
    }
    assert device(tmp_path, PI_5, tree).cpu.cores == 3


def test_memory_limits_of_version_2_hold_with_cached_files_given_back(tmp_path: Path) -> None:
    group = "sys/fs/cgroup/user.slice/a"
    tree = {
        "proc/self/cgroup": "0::/user.slice/a\n",
        f"{group}/memory.max": f"{1000 * MIB}\n",
        f"{group}/memory.current": f"{900 * MIB}\n",
        f"{group}/memory.stat": f"anon 1\ninactive_file {200 * MIB}\nactive_file {100 * MIB}\n",
        "sys/fs/cgroup/user.slice/memory.max": f"{2000 * MIB}\n",
        "sys/fs/cgroup/user.slice/memory.current": f"{1700 * MIB}\n",
    }
    memory = device(tmp_path, PI_5, tree).memory
    assert memory.limited
    assert memory.total == 1000 * MIB
    assert memory.available == 300 * MIB  # the outer group has no more, the inner 400


def test_memory_limits_of_version_1_hold_where_a_container_sees_its_group_as_the_root(
    tmp_path: Path,
) -> None:
    group = "sys/fs/cgroup/memory"
    tree = {
        "proc/self/cgroup": "3:memory:/docker/0123\n",
        f"{group}/memory.limit_in_bytes": f"{512 * MIB}\n",
        f"{group}/memory.usage_in_bytes": f"{100 * MIB}\n",
        f"{group}/memory.stat": f"active_file 1\ntotal_active_file 0\ntotal_inactive_file {MIB}\n",
    }
    memory = device(tmp_path, LAPTOP, tree).memory
    assert (memory.total, memory.available) == (512 * MIB, 413 * MIB)


def test_groups_without_a_limit_change_nothing(tmp_path: Path) -> None:
    tree = {
        "proc/self/cgroup": "3:memory:/x\n0::/x\n",
        "sys/fs/cgroup/memory/x/memory.limit_in_bytes": "9223372036854771712\n",
        "sys/fs/cgroup/memory/x/memory.usage_in_bytes": "1\n",
        "sys/fs/cgroup/x/memory.max": "max\n",
        "sys/fs/cgroup/x/memory.current": "1\n",
    }
    memory = device(tmp_path, PI_4, tree).memory
    assert (memory.total, memory.limited) == (3794 * MIB, False)


@pytest.mark.parametrize(
    ("bits", "warned"),
    [
        ("50005", "under-voltage"),
        ("50000", "under-voltage-before"),
        ("4", "throttled"),
        ("60002", "capped"),
        ("80008", "soft-limit"),
        ("e0000", "throttled-before"),
        ("0x50005", "under-voltage"),
    ],
)
def test_throttling_is_read_and_warned_of(tmp_path: Path, bits: str, warned: str) -> None:
    tree = {"sys/devices/platform/soc/soc:firmware/get_throttled": f"{bits}\n"}
    found = device(tmp_path, PI_4, tree)
    assert codes(found) == [warned]
    assert all(str(remark) for remark in found.warnings)


def test_throttling_that_cannot_be_read_is_not_known(tmp_path: Path) -> None:
    tree = {"sys/devices/platform/soc/soc:firmware/get_throttled": "?\n"}
    assert device(tmp_path, PI_4, tree).throttled is None


def test_heat_swap_and_pressure_are_warned_of(tmp_path: Path) -> None:
    found = device(
        tmp_path,
        PI_4,
        meminfo(3794, 100, (200, 50)),
        {
            "proc/swaps": "Filename\n/var/swap file 200 150 -2\n",
            "sys/class/thermal/thermal_zone0/temp": "82000\n",
            "proc/pressure/memory": "some avg10=12.34 avg60=1 avg300=1 total=1\nfull avg10=3\n",
        },
    )
    assert codes(found) == ["hot", "swapping", "pressure"]
    assert found.pressure == 12.34


def test_swap_in_compressed_memory_is_no_cause_for_alarm(tmp_path: Path) -> None:
    assert codes(device(tmp_path, PI_5, meminfo(8052, 7000, (500, 10)))) == []


def test_what_a_firmware_says_cannot_steer_the_terminal(tmp_path: Path) -> None:
    found = device(tmp_path, PI_5, {"proc/device-tree/model": "Evil\x1b[2J\nBoard" + "x" * 999})
    assert found.board.isprintable()
    assert found.board.startswith("Evil [2J Board")
    assert len(found.board) == 64


def test_this_machine() -> None:
    found = detect()
    assert found.cpu.arch == os.uname().machine
    assert 1 <= found.cpu.cores <= found.cpu.threads <= len(os.sched_getaffinity(0))
    assert found.memory.total <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 0 < found.memory.available <= found.memory.total
    assert found.cpu.flags
