"""How many threads a step uses, so that a busy neighbour does not stop it.

ggml's threads meet at a barrier after every operation of the graph, some 450
times a token for a 30-layer model, and wait there by spinning. If another
process keeps one of the cores busy, each wait can last a scheduler slice
(3 ms): two threads then decode many times slower than one. Two remedies:

- the pool's threads are pinned to a core each (`thread_pool.ThreadPool`), so that
  two of them never share one core while the neighbour has another to itself;
- a core that others use is left to them, measured from /proc/stat.

Decode is bounded by memory bandwidth, so the thread that is given up costs
less than its share; measured by `make bench`, row 5. A long prefill computes
much between two barriers and gains by half of a shared core: it gives way only
where more than one core is taken.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

__all__ = ["CoreLoad", "StepThreads"]

# A window shorter than this is too coarse: /proc/stat counts in ticks of 10 ms.
_WINDOW_S = 0.25
# A longer one began before this answer, and tells of others who may have gone since.
_STALE_S = 1.0
# What others may use, in cores, before a core is left to them. The terminal and the
# server's own event loop stay below the first while they stream.
_TOLERATED = 0.3
_TOLERATED_BY_PREFILL = 1.0
# Tokens from which a step counts as a long prefill.
_LONG = 64


class CoreLoad:
    """Cores' worth of time that other processes used, on the cores that we may use.

    Args:
        stat: the file with the counters, `/proc/stat` of proc(5).
        cores: the cores to look at.
        own: seconds of CPU time that this process has used.
    """

    def __init__(
        self,
        stat: Path = Path("/proc/stat"),
        cores: frozenset[int] | None = None,
        own: Callable[[], float] = time.process_time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stat = stat
        self.cores = cores if cores is not None else frozenset(os.sched_getaffinity(0))
        self._own = own
        self._clock = clock
        self._tick = os.sysconf("SC_CLK_TCK")
        self._last = self._read()
        self._others = 0.0

    def _read(self) -> tuple[float, float, float] | None:
        """(wall, idle, own) in seconds since some start; idle summed over the cores.

        None where the counters are not for us, as on Android.
        """
        try:
            counters = self._stat.read_text()
        except PermissionError:
            return None
        idle = 0
        for line in counters.splitlines():
            name, *ticks = line.split()
            if name[:3] == "cpu" and name[3:].isdigit() and int(name[3:]) in self.cores:
                idle += int(ticks[3]) + int(ticks[4])
        return self._clock(), idle / self._tick, self._own()

    def others(self) -> float:
        """Cores' worth of time that others used in the last window; 0 where it is not known."""
        if self._last is None or self._clock() - self._last[0] < _WINDOW_S:
            return self._others
        now = self._read()
        if now is None:
            return self._others
        wall, idle, own = (b - a for a, b in zip(self._last, now, strict=True))
        self._last = now
        stale = wall > _STALE_S
        self._others = 0.0 if stale else max(0.0, len(self.cores) - (idle + own) / wall)
        return self._others


class StepThreads:
    """The thread count of each step: the configured one, less where others keep cores busy.

    Args:
        decode: most threads for few tokens, which memory bandwidth bounds.
        batch: most threads for many tokens, which arithmetic bounds.
        few: up to how many tokens count as decode.
        load: what others use.
    """

    def __init__(self, decode: int, batch: int, few: int, load: CoreLoad | None = None) -> None:
        self._decode = decode
        self._batch = batch
        self._few = few
        self._load = load if load is not None else CoreLoad()

    def choose(self, n_tokens: int, *, steady: bool = False) -> int:
        """Threads for a step of `n_tokens`, at least one; `steady`: whatever others do."""
        most = self._decode if n_tokens <= self._few else self._batch
        most = min(most, len(self._load.cores))
        if most == 1 or steady:
            return most
        tolerated = _TOLERATED if n_tokens < _LONG else _TOLERATED_BY_PREFILL
        free = len(self._load.cores) - self._load.others()
        return max(1, min(most, int(free + tolerated)))
