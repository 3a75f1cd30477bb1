"""The students that can be cut out of a teacher, and which few of them to look at.

All slices are enumerated on a grid of eighths: layers, width and FFN in steps of about an
eighth of the teacher's, widths and FFN as multiples of 256 where the teacher's are, so that
the rows of K-quants fill their blocks and kernels have no remainder. Within that:

- At least half of the layers stay. Minitron's 16 of 32 layers lost most of GSM8K, 48.6 to
  16.8, where cutting the width to the same size lost 48.6 to 41.2 (arXiv 2408.11796).
- The FFN stays within an eighth of the proportion that it has to the width.
- Attention is as wide, in proportion to the width, as in the teacher, or the next more that
  heads allow; either whole groups go (a key/value head with its queries), or all key/value
  heads stay and each loses as many queries.

Of those of the right size a few are chosen, each the best by one criterion (`CRITERIA`), as
a list sorted by one of them would be ten times the same model.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import log
from pathlib import Path

from distill.planning.storage import bytes_per_token, kv_bytes_per_token
from distill.slices import DIMENSIONS, Reason, is_slice, kept, resized
from edge.llama_config import LlamaConfig

__all__ = ["CRITERIA", "Found", "choose", "in_order", "published", "slices"]

_PARTS = 8
_SMALL = 1024
"""Width of a model small enough for finer steps: few of them suit its number of heads."""
_MULTIPLES = (256, 128, 64, 32)
_PUBLISHED = Path(__file__).with_name("published.toml")

CRITERIA = ("nearest", "all-layers", "largest", "fastest", "asked")
"""Nearest to what was asked for; nearest with all of the teacher's layers, as cutting width
costs less quality than cutting depth (Minitron); most parameters; fewest bytes read a token;
of the very sizes that somebody has given."""


@dataclass(frozen=True, slots=True)
class Found:
    """A shape, and why it is shown."""

    config: LlamaConfig
    why: tuple[str, ...]
    """Of `CRITERIA`, those by which it is the best; empty: a published model's shape."""
    title: str | None = None
    """Of the published model."""
    fault: Reason | None = None
    """Why it is no slice of the teacher; None: it is one."""


def slices(teacher: LlamaConfig, tied: bool) -> Iterator[LlamaConfig]:
    """All students on the grid, of which each lacks something of the teacher.

    Args:
        teacher: the model to cut.
        tied: whether the students have one table for embedding and output.
    """
    widths, ffns = _grid(teacher.hidden_size), _grid(teacher.intermediate_size)
    for width, ffn, layers in product(widths, ffns, _depths(teacher.num_hidden_layers)):
        if not _in_proportion(teacher, width, ffn):
            continue
        for heads, kv_heads in _heads(teacher, width):
            made = resized(
                teacher, layers=layers, width=width, ffn=ffn, heads=heads, kv_heads=kv_heads,
                tied=tied,
            )  # fmt: skip
            if min(kept(teacher, made)[name] for name in DIMENSIONS) < 1:
                yield made


def _grid(size: int) -> list[int]:
    """Sizes up to `size` in equal steps of about an eighth of it; of small models, half that."""
    unit = next((n for n in _MULTIPLES if size % n == 0 and size >= 16 * n), 2)
    parts = _PARTS if size >= _SMALL else 2 * _PARTS
    step = unit * max(1, round(size / parts / unit))
    return sorted({*range(step, size, step), size})


def _depths(layers: int) -> list[int]:
    """From all layers down to half of them, in steps of about an eighth."""
    step = max(1, round(layers / _PARTS))
    return list(range(layers, -(-layers // 2) - 1, -step))


def _in_proportion(teacher: LlamaConfig, width: int, ffn: int) -> bool:
    change = ffn / teacher.intermediate_size - width / teacher.hidden_size
    return abs(change) <= 1 / _PARTS + 1e-9


def _heads(teacher: LlamaConfig, width: int) -> list[tuple[int, int]]:
    """Query and key/value heads: by whole groups, and by thinner ones."""
    heads, groups = teacher.num_attention_heads, teacher.num_key_value_heads
    queries = heads // groups
    # Those that do not divide the width make no model: see `is_slice`.
    whole = [n for n in _near(width * groups, teacher.hidden_size) if width % (n * queries) == 0]
    thinner = [n for n in _near(width * queries, teacher.hidden_size) if width % (n * groups) == 0]
    found = [(n * queries, n) for n in whole[:1]] + [(groups * n, groups) for n in thinner[:1]]
    return list(dict.fromkeys(found))


def _near(part: int, whole: int) -> list[int]:
    """The fewest that are enough, and one fewer, if that is any."""
    enough = -(-part // whole)
    return [n for n in (enough, enough - 1) if n]


def choose(
    students: Sequence[LlamaConfig],
    teacher: LlamaConfig,
    aim: int | None,
    quantization: str,
    context: int,
    asked: LlamaConfig | None = None,
) -> list[Found]:
    """The best of `students` by each criterion, in order.

    Args:
        students: all that are of the right size; there is one, or `asked`.
        teacher: what they are cut out of.
        aim: the number of parameters that was asked for; None: as many as possible.
        quantization: in which bytes are counted.
        context: tokens of the KV cache that is read.
        asked: one more, by its sizes.
    """
    deep = [one for one in students if one.num_hidden_layers == teacher.num_hidden_layers]
    chosen: dict[LlamaConfig, list[str]] = {}

    def distance(one: LlamaConfig) -> float:
        return abs(log(one.parameters / aim)) if aim else -one.parameters

    def read(one: LlamaConfig) -> float:
        return bytes_per_token(one, quantization) + context * kv_bytes_per_token(one)

    ways: list[tuple[str, Sequence[LlamaConfig], Callable[[LlamaConfig], float]]] = [
        ("nearest", students if aim else (), distance),
        ("all-layers", deep, distance),
        ("largest", students, lambda one: -one.parameters),
        ("fastest", students, read),
    ]
    for criterion, among, cost in ways:
        if among:
            chosen.setdefault(min(among, key=cost), []).append(criterion)
    if asked is not None:
        chosen.setdefault(asked, []).append("asked")
    return in_order([Found(config, tuple(why)) for config, why in chosen.items()])


def in_order(found: Sequence[Found]) -> list[Found]:
    """Sorted by the quality to expect: weights in the layers, and of about as many, more layers.

    Loss follows the number of weights outside the embedding, and hardly the shape (Kaplan and
    others, arXiv 2001.08361); of one size the deeper slice of a teacher keeps more of it.
    About as many: to within a quarter.
    """

    def quality(one: Found) -> tuple[float, int, int]:
        layers = one.config.num_hidden_layers
        weights = layers * one.config.layer_parameters
        return round(log(weights) / log(1.25)), layers, weights

    return sorted(found, key=quality, reverse=True)


def published(teacher: LlamaConfig, tied: bool, fits: Callable[[LlamaConfig], bool]) -> list[Found]:
    """Published shapes with the teacher's vocabulary that fit, and why each is no slice."""
    tables = tomllib.loads(_PUBLISHED.read_text(encoding="utf-8"))
    found = []
    for table in tables.values():
        head_size, title = table.pop("head_size"), table.pop("title")
        made = resized(teacher, **table, tied=tied).model_copy(update={"head_dim": head_size})
        fault = is_slice(teacher, made)
        if fault is not None and fits(made):
            found.append(Found(made, (), title, fault))
    return found
