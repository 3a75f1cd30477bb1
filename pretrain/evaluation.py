"""Bits per byte on held-out text: comparable between tokenizers, as perplexity is not."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch

from pretrain.fused import IGNORED
from pretrain.gradients import Gradients
from pretrain.objective import CrossEntropy
from pretrain.texts import HeldOut
from pretrain.tokens import TokenRow
from pretrain.world import World

__all__ = ["bits_per_byte"]


def bits_per_byte(
    gradients: Gradients,
    world: World,
    texts: Sequence[HeldOut],
    *,
    length: int,
    batch: int,
    tokens: int,
    stopped: Callable[[], bool] = lambda: False,
) -> Mapping[str, float] | None:
    """Of each language: nats a token, by the bytes that a token of it stands for.

        bits/byte = nats/token ÷ ln 2 × tokens/bytes

    Separators count as tokens and not as bytes. Every process must call this.

    Args:
        gradients: computes losses.
        world: the processes.
        texts: held-out text, each of at least T + 1 tokens.
        length: T.
        batch: sequences read at a time, over all processes.
        tokens: how many to read of each language.
        stopped: asked now and then, in one process or all.

    Returns:
        By language; None: it was stopped.
    """
    found = {}
    for text in texts:
        starts = text.sequences(length, max(tokens // length, 1))
        total = 0.0
        for at in range(0, len(starts), batch):
            some = starts[at : at + batch]
            total += _nats(gradients, world, text.row, some, length, batch)
            if world.any(stopped())[0]:
                return None
        about = text.row.about
        found[text.language] = total / len(starts) / math.log(2) * about.tokens / about.size
    return found


def _nats(
    gradients: Gradients, world: World, row: TokenRow, starts: list[int], length: int, batch: int
) -> float:
    """The sum over sequences of their nats a token."""
    ids, labels = [], []
    for n in world.share(batch):
        # A batch that is not full is filled up with what does not count.
        start = starts[n % len(starts)]
        window = torch.from_numpy(row.read(start, start + length + 1)).long()
        ids.append(window[:-1])
        labels.append(window[1:] if n < len(starts) else torch.full_like(window[1:], IGNORED))
    wanted = {"labels": torch.stack(labels).to(world.device)}
    loss = gradients.measure(torch.stack(ids).to(world.device), wanted, CrossEntropy())
    return float(loss) * batch
