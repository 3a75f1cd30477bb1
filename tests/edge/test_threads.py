from __future__ import annotations

from pathlib import Path

import pytest

from edge.llamacpp.threads import CoreLoad, StepThreads


class Machine:
    """A /proc/stat whose cores do what the test says."""

    def __init__(self, folder: Path, cores: int) -> None:
        self.stat = folder / "stat"
        self.cores = cores
        self.now = 0.0
        self.idle = 0.0
        self.own = 0.0
        self.write()

    def write(self) -> None:
        lines = ["cpu 0 0 0 0 0 0 0 0 0 0"]
        share = int(100 * self.idle / self.cores)
        lines += [f"cpu{core} 5 5 5 {share} 0 0 0 0 0 0" for core in range(self.cores)]
        lines.append("intr 1 2 3")
        self.stat.write_text("\n".join(lines) + "\n")

    def run(self, seconds: float, own: float, others: float) -> None:
        """`own` and `others` are cores' worth of work."""
        self.now += seconds
        self.own += own * seconds
        self.idle += (self.cores - own - others) * seconds
        self.write()

    def load(self) -> CoreLoad:
        cores = frozenset(range(self.cores))
        return CoreLoad(self.stat, cores, own=lambda: self.own, clock=lambda: self.now)


class NotForUs(type(Path())):  # type: ignore[misc]
    def read_text(self, *_: object, **__: object) -> str:
        raise PermissionError(13, "Permission denied", str(self))


def test_where_the_counters_are_not_for_us_all_threads_work(tmp_path: Path) -> None:
    """Android's SELinux lets no app read /proc/stat."""
    machine = Machine(tmp_path, 4)
    load = CoreLoad(
        NotForUs(machine.stat), frozenset(range(4)), lambda: machine.own, lambda: machine.now
    )
    machine.run(1.0, own=1.0, others=3.0)
    assert load.others() == 0.0
    assert StepThreads(3, 4, 8, load).choose(1) == 3


@pytest.mark.parametrize(
    ("cores", "most", "own", "others", "expected"),
    [
        (2, 2, 2.0, 0.0, 2),
        (2, 2, 1.8, 0.2, 2),  # a terminal that draws
        (2, 2, 1.5, 0.5, 1),  # a busy neighbour has half of the core that we share
        (2, 2, 1.0, 1.0, 1),  # and all of it once we have given way
        (2, 2, 0.0, 2.0, 1),
        (4, 2, 2.0, 1.0, 2),  # cores enough for all
        (4, 4, 3.5, 0.5, 3),
        (4, 1, 1.0, 3.0, 1),
    ],
)
def test_leaves_busy_cores_to_others(
    tmp_path: Path, cores: int, most: int, own: float, others: float, expected: int
) -> None:
    machine = Machine(tmp_path, cores)
    threads = StepThreads(most, cores, few=4, load=machine.load())
    assert threads.choose(1) == most
    machine.run(1.0, own, others)
    assert threads.choose(1) == expected


def test_steady_steps_keep_their_count(tmp_path: Path) -> None:
    machine = Machine(tmp_path, 2)
    threads = StepThreads(2, 2, few=4, load=machine.load())
    machine.run(1.0, 1.0, 1.0)
    assert threads.choose(1) == 1
    assert threads.choose(1, steady=True) == 2
    one_core = StepThreads(2, 2, few=4, load=Machine(tmp_path, 1).load())
    assert one_core.choose(1, steady=True) == 1, "two on one core would wait for each other"


def test_takes_the_core_back_when_the_neighbour_has_gone(tmp_path: Path) -> None:
    machine = Machine(tmp_path, 2)
    threads = StepThreads(2, 2, few=4, load=machine.load())
    machine.run(1.0, 1.5, 0.5)
    assert threads.choose(1) == 1
    machine.run(0.1, 1.0, 0.0)
    assert threads.choose(1) == 1, "a window of 0.1 s is too coarse to judge by"
    machine.run(0.4, 1.0, 0.0)
    assert threads.choose(1) == 2


def test_what_others_did_before_this_answer_does_not_count(tmp_path: Path) -> None:
    machine = Machine(tmp_path, 2)
    threads = StepThreads(2, 2, few=4, load=machine.load())
    machine.run(30.0, 0.0, 2.0)
    assert threads.choose(1) == 2
    machine.run(0.5, 1.5, 0.5)
    assert threads.choose(1) == 1


def test_prefill_has_its_own_count_and_gives_way_later(tmp_path: Path) -> None:
    machine = Machine(tmp_path, 4)
    threads = StepThreads(2, 4, few=4, load=machine.load())
    assert [threads.choose(n) for n in (1, 4, 5, 512)] == [2, 2, 4, 4]
    machine.run(1.0, 3.5, 0.5)
    assert [threads.choose(n) for n in (1, 5, 512)] == [2, 3, 4]
    machine.run(1.0, 1.5, 2.5)
    assert [threads.choose(n) for n in (1, 5, 512)] == [1, 1, 2]


def test_reads_the_real_machine() -> None:
    load = CoreLoad()
    assert load.cores
    assert 0.0 <= load.others() <= len(load.cores)
