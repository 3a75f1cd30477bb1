from __future__ import annotations

import random

from edge.llamacpp.cells import CellCount


def test_shared_prefix_counts_once() -> None:
    cells = CellCount()
    cells.open(0)
    cells.append(0, 10)
    cells.fork(0, 1, 6)
    cells.append(1, 3)
    assert (cells.length(0), cells.length(1), cells.used) == (10, 9, 13)
    cells.close(0)
    assert (cells.length(1), cells.used) == (9, 9)


def test_against_a_model_of_sets() -> None:
    """Each cell as an object of its own, the way llama.cpp keeps sets of sequences per cell."""
    rng = random.Random(7)
    cells = CellCount()
    model: dict[int, list[object]] = {}
    for _ in range(5000):
        seq = rng.randrange(6)
        if seq not in model:
            if model and rng.random() < 0.5:
                source = rng.choice(list(model))
                n = rng.randint(0, len(model[source]))
                model[seq] = model[source][:n]
                cells.fork(source, seq, n)
            else:
                model[seq] = []
                cells.open(seq)
        elif rng.random() < 0.5:
            n = rng.randint(1, 5)
            model[seq] = model[seq] + [object() for _ in range(n)]
            cells.append(seq, n)
        elif rng.random() < 0.7:
            n = rng.randint(0, len(model[seq]))
            model[seq] = model[seq][:n]
            cells.trim(seq, n)
        else:
            del model[seq]
            cells.close(seq)
        assert cells.used == len({id(cell) for held in model.values() for cell in held})
        assert {s: cells.length(s) for s in model} == {s: len(h) for s, h in model.items()}
        assert len(cells) == len(model)
