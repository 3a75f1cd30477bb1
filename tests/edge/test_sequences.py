"""What is kept of sequences and where, on an engine that only remembers their tokens."""

from __future__ import annotations

import errno
import random
from array import array
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from edge.engine import Engine
from edge.errors import EngineError
from edge.held import Held
from edge.kvstore import KVStore, forget, kv_store_dir
from edge.llamacpp.cells import CellCount
from edge.sequences import Sequences

_TOKEN = 100
"""Bytes of a token's state."""


class Remembering:
    """The part of `edge.engine.Engine` that knows sequences; a state is its tokens."""

    def __init__(self, n_ctx: int, n_seq: int, *, forks_share: bool = True) -> None:
        self.spec = SimpleNamespace(n_ctx=n_ctx, n_seq=n_seq, forks_share=forks_share)
        self.tokens: dict[int, array[int]] = {}
        self.refuses = False
        self._cells = CellCount()

    def open(self) -> int:
        seq = next(n for n in range(self.spec.n_seq) if n not in self.tokens)
        self._cells.open(seq)
        self.tokens[seq] = array("i")
        return seq

    def close_seq(self, seq: int) -> None:
        self._cells.close(seq)
        del self.tokens[seq]

    def fork(self, seq: int, n: int) -> int:
        target = next(k for k in range(self.spec.n_seq) if k not in self.tokens)
        if self.spec.forks_share:
            self._cells.fork(seq, target, n)
        else:
            if n > self.free_cells():
                raise EngineError("engine.no-cells", n_ctx=self.spec.n_ctx)
            self._cells.open(target)
            self._cells.append(target, n)
        self.tokens[target] = self.tokens[seq][:n]
        return target

    def trim(self, seq: int, n: int) -> int:
        self._cells.trim(seq, n)
        del self.tokens[seq][n:]
        return n

    def length(self, seq: int) -> int:
        return self._cells.length(seq)

    def free_cells(self) -> int:
        return int(self.spec.n_ctx) - self._cells.used

    def evaluate(self, seq: int, ids: array[int]) -> None:
        assert len(ids) <= self.free_cells()
        self._cells.append(seq, len(ids))
        self.tokens[seq] += ids

    def state_size(self, seq: int) -> int:
        return 8 + _TOKEN * self.length(seq)

    def save(self, seq: int, buffer: memoryview) -> None:
        if self.refuses:
            raise EngineError("engine.state-not-saved", wrote=0, wanted=len(buffer))
        data = self.tokens[seq].tobytes()
        buffer[: len(data)] = data

    def load(self, seq: int, buffer: memoryview, n: int) -> None:
        if self.refuses:
            raise EngineError("engine.state-refused", reason="as asked")
        ids = array("i")
        ids.frombytes(buffer[: 4 * n])
        self.evaluate(seq, ids)


def over(engine: Remembering, store: KVStore | None = None, swap_bytes: int = 0) -> Sequences:
    return Sequences(cast("Engine", engine), store, swap_bytes)


def answer(engine: Remembering, sequences: Sequences, prompt: array[int], pinned: int = 0) -> int:
    """Evaluate `prompt` as a request would; returns how much of it was known."""
    held = sequences.acquire(prompt, pinned)
    known = len(held.tokens)
    finish(engine, sequences, held, prompt)
    return known


def finish(engine: Remembering, sequences: Sequences, held: Held, prompt: array[int]) -> None:
    assert held.tokens == engine.tokens[held.seq] == prompt[: len(held.tokens)]
    rest = prompt[len(held.tokens) :]
    assert rest, "the last token is left to evaluate"
    if sequences.make_room(len(rest)):
        engine.evaluate(held.seq, rest)
        sequences.extend(held, rest)
        sequences.release(held)
    else:
        sequences.discard(held)


def words(seed: int, n: int) -> array[int]:
    return array("i", random.Random(seed).choices(range(1000), k=n))


@pytest.mark.parametrize("swap_bytes", [0, 60 * _TOKEN, 400 * _TOKEN])
@pytest.mark.parametrize("forks_share", [True, False], ids=["sharing", "copying"])
@pytest.mark.parametrize("seed", range(4))
def test_whatever_comes_no_state_is_mixed_up(
    tmp_path: Path, seed: int, forks_share: bool, swap_bytes: int
) -> None:
    draw = random.Random(seed)
    engine = Remembering(n_ctx=300, n_seq=6, forks_share=forks_share)
    sequences = over(engine, KVStore(tmp_path, "key", 300 * _TOKEN), swap_bytes)
    system = [words(n, 40) for n in range(2)]
    talks = [system[n % 2] + words(100 + n, 5) for n in range(6)]
    busy: list[tuple[Held, array[int]]] = []
    for _ in range(400):
        which = draw.randrange(len(talks))
        if draw.random() < 0.2:  # another branch, or from the beginning
            talks[which] = talks[which][: draw.randrange(41, 60)]
        talks[which] += words(draw.randrange(10**6), draw.randrange(1, 30))
        talks[which] = talks[which][:150]
        prompt = talks[which][:]
        if len(busy) == 3 or (busy and draw.random() < 0.5):
            finish(engine, sequences, *busy.pop(draw.randrange(len(busy))))
        if not busy or sequences.room_for(prompt, 10, reuse=True):
            engine.refuses = draw.random() < 0.05
            if draw.random() < 0.1:
                held = sequences.acquire_empty(40)
            else:
                held = sequences.acquire(prompt, draw.choice((0, 40)))
            engine.refuses = False
            busy.append((held, prompt))
        if not busy and draw.random() < 0.3 and (one := sequences.unsaved()) is not None:
            sequences.save(one)
        assert len(engine.tokens) <= 6
        assert sequences._swap.free >= 0
    for held, prompt in busy:
        finish(engine, sequences, held, prompt)
    sequences.save_all()


def test_a_branch_whose_source_must_go_is_evaluated_anew(tmp_path: Path) -> None:
    engine = Remembering(n_ctx=100, n_seq=4)
    sequences = over(engine, KVStore(tmp_path, "key", 1 << 20), 1000 * _TOKEN)
    long = words(1, 80)
    answer(engine, sequences, long)
    held = sequences.acquire(words(2, 60), 0)
    engine.evaluate(held.seq, words(2, 60))
    sequences.extend(held, words(2, 60))
    assert answer(engine, sequences, long[:30] + words(3, 5)) == 0, "80 tokens do not fit beside 60"
    sequences.release(held)
    assert answer(engine, sequences, long + words(4, 5)) == 80


def test_a_state_that_is_refused_is_evaluated_anew() -> None:
    engine = Remembering(n_ctx=200, n_seq=4)
    sequences = over(engine, None, 1000 * _TOKEN)
    first = words(1, 50)
    answer(engine, sequences, first)
    answer(engine, sequences, words(2, 50))
    engine.refuses = True
    assert answer(engine, sequences, first + words(3, 5)) == 0
    engine.refuses = False
    assert answer(engine, sequences, first + words(3, 9)) == 55
    assert not any(held.busy for held in sequences._held), "nothing is left behind"


def test_a_new_answer_to_the_same_question_replaces_the_old_one() -> None:
    engine = Remembering(n_ctx=400, n_seq=4)
    sequences = over(engine, None, 1000 * _TOKEN)
    question = words(1, 200)
    for n in range(5):
        assert answer(engine, sequences, question + words(10 + n, 20)) == (200 if n else 0)
    assert sequences.idle() == 1


def test_requests_that_came_to_nothing_leave_nothing() -> None:
    engine = Remembering(n_ctx=100, n_seq=4)
    sequences = over(engine, None, 1000 * _TOKEN)
    for n in range(20):
        sequences.release(sequences.acquire(words(n, 10), 0))
    assert sequences.idle() <= 1


def test_the_conversation_used_last_stays_where_the_disk_holds_few(tmp_path: Path) -> None:
    engine = Remembering(n_ctx=300, n_seq=8)
    sequences = over(engine, KVStore(tmp_path, "key", int(2.5 * 50 * _TOKEN)), 1000 * _TOKEN)
    talks = [words(n, 50) for n in range(4)]
    for talk in talks:
        answer(engine, sequences, talk)
    sequences.save_all()
    assert len(list(tmp_path.glob("*/*.kv"))) == 2
    reopened = KVStore(tmp_path, "key", 1 << 20)
    assert [reopened.best(talk)[1] for talk in talks] == [0, 0, 50, 50]


def test_memory_for_those_at_rest_is_bounded_while_they_move() -> None:
    engine = Remembering(n_ctx=120, n_seq=8)  # two fit, and two beside it
    sequences = over(engine, None, 120 * _TOKEN)
    for n in range(6):
        answer(engine, sequences, words(n, 50))
        assert sum(len(swapped.state) for swapped in sequences._swap) <= 120 * _TOKEN
    assert sequences.idle() == 4


def test_without_reuse_nothing_is_shared() -> None:
    engine = Remembering(n_ctx=100, n_seq=4)
    sequences = over(engine, None, 0)
    prompt = words(1, 60)
    held = sequences.acquire(prompt, 0)
    engine.evaluate(held.seq, prompt)
    sequences.extend(held, prompt)
    assert sequences.room_for(prompt + words(2, 5), 10, reuse=True)
    assert not sequences.room_for(prompt + words(2, 5), 10, reuse=False)


def test_a_system_that_gives_no_memory_costs_a_state_and_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    engine = Remembering(n_ctx=200, n_seq=4)
    sequences = over(engine, None, 1000 * _TOKEN)
    first = words(1, 50)
    answer(engine, sequences, first)
    monkeypatch.setattr("edge.sequences.mmap", refuse)
    answer(engine, sequences, words(2, 50))
    assert answer(engine, sequences, first) == 0
    monkeypatch.undo()
    answer(engine, sequences, words(3, 50))
    assert answer(engine, sequences, first + words(4, 5)) == 50


def test_nothing_is_written_of_what_was_there_when_a_conversation_was_deleted() -> None:
    engine = Remembering(n_ctx=400, n_seq=8)
    sequences = over(engine, KVStore(kv_store_dir(), "key", 1 << 20), 60 * _TOKEN)
    for n in range(3):
        answer(engine, sequences, words(n, 50))
    one = sequences.unsaved()
    assert one in sequences._swap
    sequences.save(one)
    busy = sequences.acquire(words(3, 50), 0)
    assert sequences.idle() == 2, "one in RAM, one in the cells"
    assert list(kv_store_dir().glob("*/*.kv"))
    forget()
    assert sequences.unsaved() is None
    assert sequences.idle() == 0
    finish(engine, sequences, busy, words(3, 50))
    sequences.save_all()
    assert not list(kv_store_dir().glob("*/*.kv"))
    assert not engine.tokens
    answer(engine, sequences, words(4, 50))
    sequences.save_all()
    assert len(list(kv_store_dir().glob("*/*.kv"))) == 1, "what comes later is kept"
