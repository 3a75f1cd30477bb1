"""The first minute of a class on an emulated Pi 3, and the memory of twenty turns.

`python -m tests.images.minute IMAGE`: times of an emulator, and by how much it is slower than this
computer, which the same programs measure on both. Nothing else should run meanwhile.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median

from edge.store import DEFAULT_MODEL, Store
from images.booting.machine import MACHINES, Started, start
from images.booting.turn import Turn, talk
from tests.images import shell
from tests.images.shell import Shell

QUESTIONS = tuple(
    f"What is the capital of {land}?"
    for land in ("France", "Italy", "Spain", "Portugal", "Germany", "Poland", "Greece", "Ireland",
                 "Norway", "Sweden", "Finland", "Denmark", "Austria", "Hungary", "Egypt", "Kenya",
                 "Peru", "Chile", "Japan", "China")
)  # fmt: skip
_PATIENCE_S = 3000
_MOST_WORDS = 5
"""Of an answer: what a turn takes of memory, it takes with its first token."""
_UNITS = ("lucie-serve", "serial-getty@ttyS1")
_MIB = 1 << 20
_LOOP = "python3 -m timeit -u msec -n 1 -r 5 'sum(i * i for i in range(10**5))'"
_WORKER = Path("tests/benchmarks/engine_worker.py")
_NOT_ON_BOARD = "edge/speed.py"
"""What it needs of this project beside what a card has."""
_WORK = "-t 1 -p 16 -n 8"
_CARD = "/data/lucie/data/models/*/*.gguf"


@dataclass(frozen=True, slots=True)
class Rates:
    """What the two programs say of a machine."""

    loop_ms: float
    """Of Python, for a loop of 100,000."""
    prefill: float
    decode: float
    """Of llama.cpp with one thread, in tokens per second."""


@dataclass(frozen=True, slots=True)
class Memory:
    """In MiB, of a board after the last turn."""

    peaks: dict[str, float]
    """By unit: the most that it has had, with what it had of files (`MemoryPeak`)."""
    swapped: dict[str, float]
    """By unit: the most of it that lay in zram."""
    total: float
    used: float
    """What programs and Linux hold, with the model loaded; not what it has read of files."""
    idle: float
    """The same once the server has ended."""
    left: float
    """What Linux says is available then; it keeps a reserve, and part of the files."""
    killed: int
    """Programs that Linux has ended for want of memory."""
    restarts: int
    """Of the server and of the chat."""


@dataclass(frozen=True, slots=True)
class Minute:
    """In seconds."""

    screen_s: float
    """From power to the chat."""
    ready_s: float
    """From power until it can be asked."""
    first_s: float
    """From the first question to the first word of its answer."""
    later_s: float
    """The same of the other questions, their median."""
    memory: Memory
    there: Rates
    here: Rates


def measure(image: Path, model: Path, folder: Path, tell: Callable[[str], object]) -> Minute:
    """Start a card in a Pi 3, and ask one question after the other.

    Args:
        image: with the default model.
        model: the same, on this computer.
        folder: for the machine.
        tell: called with what has been done.
    """
    started = _start(image, folder)
    firsts: list[float] = []
    seen: list[tuple[Memory, Rates]] = []

    def after(turn: Turn, screen: str) -> None:
        firsts.append(turn.first_s)
        said = screen.partition(QUESTIONS[len(firsts) - 1])[2].split()[: _MOST_WORDS + 1]
        tell(f"turn {len(firsts)}: {turn.first_s:.0f} s, {turn.answer_s:.0f} s: {' '.join(said)}")
        if len(firsts) == len(QUESTIONS):
            root = Shell(folder, _PATIENCE_S)
            seen.append((_memory(root), _rates(root.run, "/root/worker.py", _CARD)))
            root.close()

    had = talk(started.command(), QUESTIONS, folder / "console.log", _PATIENCE_S, after,
               _MOST_WORDS)  # fmt: skip
    [(memory, there)] = seen
    return Minute(
        had.screen_s, had.ready_s, firsts[0], median(firsts[1:]), memory, there, _here(model)
    )


def _start(image: Path, folder: Path) -> Started:
    """The first serial line, a Pi's for Bluetooth, is that of the shell."""
    pi3 = MACHINES["raspi3b"]
    *arguments, line, nothing = pi3.arguments
    assert (line, nothing) == ("-serial", "null")
    machine = replace(pi3, arguments=(*arguments, *shell.SERIAL))
    started = start(image, machine, folder, folder / "log")
    speed = Path(_NOT_ON_BOARD).read_text(encoding="utf-8")
    laid = {"root/worker.py": _WORKER.read_text(encoding="utf-8"),
            f"usr/lib/python3/dist-packages/{_NOT_ON_BOARD}": speed}  # fmt: skip
    shell.lay(started, "ttyAMA0", laid)
    tree = arguments[arguments.index("-dtb") + 1]
    words = ["fdtput", "-r", f"/card/{tree}", "/soc/serial@7e201000/bluetooth"]
    subprocess.run(started.room.command(words, {"/card": folder}), check=True)
    return started


def _memory(root: Shell) -> Memory:
    def each(what: str) -> dict[str, float]:
        lines = {unit: root.run(f"systemctl show --value -p {what} {unit}") for unit in _UNITS}
        return {unit: int(line) / _MIB for unit, line in lines.items()}

    def meminfo() -> dict[str, float]:
        found = re.findall(r"^(\w+): +(\d+) kB$", root.run("cat /proc/meminfo"), re.MULTILINE)
        return {name: int(kib) / 1024 for name, kib in found}

    def held(now: dict[str, float]) -> float:
        given_back = now["MemFree"] + now["Buffers"] + now["Cached"] + now["SReclaimable"]
        return now["MemTotal"] - given_back + now["Shmem"]

    peaks, swapped = each("MemoryPeak"), each("MemorySwapPeak")
    restarts = sum(each("NRestarts").values()) * _MIB
    used = held(meminfo())
    root.run("systemctl stop lucie-serve")
    idle = meminfo()
    [killed] = re.findall(r"^oom_kill (\d+)$", root.run("cat /proc/vmstat"), re.MULTILINE)
    return Memory(peaks, swapped, idle["MemTotal"], used, held(idle), idle["MemAvailable"],
                  int(killed), int(restarts))  # fmt: skip


def _rates(run: Callable[[str], str], worker: str, model: str) -> Rates:
    [loop] = re.findall(r"best of \d+: ([\d.]+) msec", run(_LOOP))
    rates = json.loads(run(f"python3 {worker} {model} {_WORK}"))
    return Rates(float(loop), rates["pp"], rates["tg"])


def _here(model: Path) -> Rates:
    """Of this computer."""

    def run(command: str) -> str:
        words = ["sh", "-c", command]
        return subprocess.run(words, check=True, capture_output=True, text=True).stdout

    return _rates(run, str(_WORKER), str(model))


def _tell(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def main(arguments: Sequence[str]) -> int:
    """Measure, and write the figures to stdout as JSON."""
    image, model = Path(arguments[0]), Store().find(DEFAULT_MODEL).path
    with tempfile.TemporaryDirectory(prefix="lucie-minute-", dir="/var/tmp") as folder:
        found = measure(image, model, Path(folder), _tell)
    sys.stdout.write(f"{json.dumps(asdict(found), indent=1)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
