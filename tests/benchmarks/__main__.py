"""`make bench`: the figures that Lucie is held to, as one table.

Runs alternate between ours and the peer's; each value is a median. Nothing else should
run meanwhile, or the figures are those of a busy machine.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

from edge.store import DEFAULT_MODEL, Store
from tests.benchmarks import distilling, graphs, quantizing, serving, speed, start
from tests.benchmarks.measure import Row, table
from tests.benchmarks.referee import Referee, build

__all__: list[str] = []

_FIGURES: dict[int, tuple[Callable[[Referee, Path, int], list[Row]], ...]] = {
    1: (speed.engine,),
    2: (serving.throughput,),
    3: (serving.waiting,),
    4: (start.help_text, start.first_frame),
    5: (speed.neighbour,),
    6: (serving.memory, start.terminal_memory),
    11: (quantizing.converter,),
    12: (quantizing.quantizer,),
    13: (quantizing.divergence,),
    14: (graphs.graphs,),
    15: (distilling.training,),
}


def main() -> int:
    """Measure; write the table to stdout; returns 0 whether or not targets are met."""
    parser = argparse.ArgumentParser(prog="make bench BENCH=…", description=__doc__)
    parser.add_argument("-r", "--runs", type=int, default=5, help="runs of each (default: 5)")
    parser.add_argument("-f", "--figure", type=int, action="append", choices=_FIGURES)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there as well")
    asked = parser.parse_args()
    given = os.environ.get("LUCIE_TEST_MODEL")
    model = Path(given) if given else Store().find(DEFAULT_MODEL).path
    programs = build()
    rows: list[Row] = []
    for figure in asked.figure or _FIGURES:
        for measure in _FIGURES[figure]:
            sys.stderr.write(f"figure {figure}: {measure.__name__}\n")
            rows += measure(programs, model, asked.runs)
    sys.stdout.write(table(rows) + "\n")
    if asked.json:
        asked.json.write_text(
            json.dumps([row.asdict() for row in rows], indent=1) + "\n", encoding="utf-8"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
