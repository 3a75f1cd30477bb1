"""How many KV cells are in use, where sequences share prefixes.

llama.cpp does not tell, and asking by trial would mean a failed step. A
sequence is a list of runs; a run that several sequences share counts once.
"""

from __future__ import annotations

__all__ = ["CellCount"]


class _Run:
    __slots__ = ("n", "refs")

    def __init__(self, n: int, refs: int = 1) -> None:
        self.n = n
        self.refs = refs


class CellCount:
    """Cells in use, by sequence and in all."""

    def __init__(self) -> None:
        self.used = 0
        self._runs: dict[int, list[_Run]] = {}

    def __contains__(self, seq: int) -> bool:
        return seq in self._runs

    def __len__(self) -> int:
        return len(self._runs)

    def length(self, seq: int) -> int:
        """Tokens that a sequence holds."""
        return sum(run.n for run in self._runs[seq])

    def open(self, seq: int) -> None:
        """A new, empty sequence."""
        self._runs[seq] = []

    def append(self, seq: int, n: int) -> None:
        """A sequence grows by `n` cells of its own."""
        runs = self._runs[seq]
        if runs and runs[-1].refs == 1:
            runs[-1].n += n
        else:
            runs.append(_Run(n))
        self.used += n

    def trim(self, seq: int, n: int) -> None:
        """A sequence keeps its first `n` tokens."""
        head, tail = self._cut(seq, n)
        self._runs[seq] = head
        for run in tail:
            run.refs -= 1
            if run.refs == 0:
                self.used -= run.n

    def close(self, seq: int) -> None:
        """Forget a sequence."""
        self.trim(seq, 0)
        del self._runs[seq]

    def fork(self, source: int, target: int, n: int) -> None:
        """`target` is new and shares the first `n` tokens of `source`."""
        head, _ = self._cut(source, n)
        for run in head:
            run.refs += 1
        self._runs[target] = list(head)

    def _cut(self, seq: int, n: int) -> tuple[list[_Run], list[_Run]]:
        """The runs before and after token `n`; a run that straddles it is split for all."""
        runs = self._runs[seq]
        at = 0
        while at < len(runs) and n >= runs[at].n:
            n -= runs[at].n
            at += 1
        if n and at < len(runs):
            whole = runs[at]
            rest = _Run(whole.n - n, whole.refs)
            whole.n = n
            for others in self._runs.values():
                if whole in others:
                    others.insert(others.index(whole) + 1, rest)
            at += 1
        runs = self._runs[seq]
        return runs[:at], runs[at:]
