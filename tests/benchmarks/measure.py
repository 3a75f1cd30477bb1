"""What is common to all figures: interleaved runs, medians, and rows of one table."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any, Literal

__all__ = ["LUCIE", "Row", "Target", "busy_core", "interleave", "peak_mib", "run_json", "table"]

LUCIE = Path(sys.executable).with_name("lucie")
"""The command `lucie` of the environment that runs the benchmark."""
_SETTLE_S = 1.0


@dataclass(frozen=True, slots=True)
class Target:
    """What ours must reach, beside the peer's or by itself."""

    bound: float
    at_least: bool = False
    of: Literal["ratio", "difference", "ours"] = "ratio"

    def __str__(self) -> str:
        mark = {"ratio": " ×", "difference": " more", "ours": ""}[self.of]
        return f"{'≥' if self.at_least else '≤'} {self.bound:g}{mark}"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table; values are those of all runs."""

    figure: int
    """Number in the list of figures to reach; those of quantizing from 11 on."""
    what: str
    unit: str
    ours: Sequence[float]
    peer: Sequence[float]
    """What ours is compared with; empty where it stands alone."""
    by: str
    """How the peer's value can be had by hand."""
    target: Target | None = None
    """None: shown for comparison only."""

    @property
    def value(self) -> float:
        """What is held against the target: the median over the runs.

        A run is compared with the peer's run beside it: between runs the machine drifts.
        """
        return median(self._compared)

    @property
    def error(self) -> float:
        """Standard error of that median, from the quartiles of the runs (as of a normal law)."""
        if len(self.ours) < 2:
            return 0.0
        low, _, high = quantiles(self._compared, n=4, method="inclusive")
        return 0.929 * (high - low) / len(self._compared) ** 0.5

    @property
    def _compared(self) -> Sequence[float]:
        of = self.target.of if self.target else "ratio"
        if of == "ours":
            return self.ours
        pairs = zip(self.ours, self.peer, strict=True)
        return [a / b if of == "ratio" else a - b for a, b in pairs]

    @property
    def met(self) -> bool | None:
        """Whether the target is reached."""
        if self.target is None:
            return None
        reached = self.value - self.target.bound
        return reached >= 0 if self.target.at_least else reached <= 0

    def asdict(self) -> dict[str, Any]:
        """For `--json`."""
        return {**asdict(self), "value": self.value, "error": self.error, "met": self.met}


def interleave(*programs: Callable[[], Any], runs: int) -> list[list[Any]]:
    """Run the programs in turn, A B A B, so that a drift of the machine meets them alike."""
    results: list[list[Any]] = [[] for _ in programs]
    for _ in range(runs):
        for program, result in zip(programs, results, strict=True):
            # llama.cpp's threads spin for some 0.15 s after their last step, and would be
            # the next one's busy neighbour.
            time.sleep(_SETTLE_S)
            result.append(program())
    return results


def run_json(command: Sequence[str | Path], env: Mapping[str, str] | None = None) -> Any:
    """What a program prints to stdout, as JSON; its stderr is shown if it fails."""
    done = subprocess.run(
        [str(word) for word in command],
        capture_output=True,
        text=True,
        env={**os.environ, **(env or {})},
    )
    if done.returncode != 0:
        sys.stderr.write(done.stderr[-2000:])
        raise SystemExit(f"{command[0]} ended with {done.returncode}")
    return json.loads(done.stdout)


@contextmanager
def busy_core() -> Iterator[None]:
    """One process that computes without a pause, as any neighbour may."""
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as neighbour:
        try:
            yield
        finally:
            neighbour.kill()


def peak_mib(pid: int) -> float:
    """Largest resident memory of a process so far, as the kernel counts it (VmHWM)."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise ProcessLookupError(pid)


def table(rows: Sequence[Row]) -> str:
    """The rows as Markdown: medians with quartiles, and comparisons with standard errors."""
    lines = [
        "| # | what | unit | ours | peer | compared | target | met | peer by |",
        "|---|---|---|---:|---:|---:|---:|---|---|",
    ]
    for row in rows:
        of = row.target.of if row.target else "ratio"
        value = {"ratio": f"{row.value:.3f} ×", "difference": f"{row.value:+.4g}", "ours": ""}[of]
        if value and len(row.ours) > 2:
            value += f" ± {row.error:.2g}"
        met = {True: "yes", False: "**no**", None: ""}[row.met]
        cells = (
            *(row.figure, row.what, row.unit, _shown(row.ours), _shown(row.peer)),
            *(value, row.target or "", met, f"`{row.by}`"),
        )
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def _shown(values: Sequence[float]) -> str:
    if len(values) < 2:
        return "".join(f"{value:.4g}" for value in values)
    low, _, high = quantiles(values, n=4, method="inclusive")
    return f"{median(values):.4g} ({low:.4g} to {high:.4g})"
