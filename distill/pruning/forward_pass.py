"""One pass over text, forward only, layer by layer: what importance is measured in.

    pieces ──▶ embedding ──▶ layer 0 ──▶ … ──▶ last norm ──▶ output matrix ──▶ loss
               hidden states   │ statistics
               on disk         ▼
                             layers/000.safetensors

One layer's weights are in memory at a time, hidden states of all pieces lie on disk, and a
layer that is done is not done again: a model larger than memory is measured on a laptop.

The loss without a layer (`layer_loss`) is measured in the same pass: behind the N pieces, the
file holds for each layer that has been passed K pieces which passed by it.

    [ N pieces | K without layer 0 | K without layer 1 | … ]

Of some tokens, hidden states are kept in front of every layer: how far the residual stream turns
over several layers is known only when all have been passed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from distill.errors import DistillError
from distill.pruning.scores import Importance
from distill.pruning.work import Recipe, Work
from edge.checkpoint import Checkpoint
from edge.progress import Count, Progress

if TYPE_CHECKING:
    from torch import Tensor, nn

    from distill.pruning.layers import Layers
    from distill.pruning.states import States

__all__ = ["run_through"]

_TOGETHER = 2048
"""Tokens that are computed together, as far as pieces are whole."""
_SAMPLED_PIECES = 128
"""Of how many pieces at most hidden states are kept."""


def run_through(
    checkpoint: Checkpoint, recipe: Recipe, work: Work, ids: Tensor, progress: Progress
) -> tuple[Importance, float]:
    """The figures, and the mean loss in nats a token.

    Args:
        checkpoint: the model, complete.
        recipe: what is measured.
        work: the folder of it, which is ours; a pass goes on where it was stopped.
        ids: the pieces [B, T].
        progress: called with pieces done and pieces in all.

    Raises:
        DistillError: the model computes no numbers; a file in the folder is damaged.
        CheckpointError: a tensor cannot be read, or a number of it is none.
    """
    import torch

    from distill.pruning.layers import DTYPES, Layers

    with torch.no_grad():
        layers = Layers(checkpoint, recipe.length, DTYPES[recipe.dtype])
        run = _Run(layers, checkpoint, recipe, work, ids, progress)
        run.begin()
        for n in range(work.done(checkpoint.config.num_hidden_layers), run.layers):
            run.measure(n)
        return run.end()


class _Run:
    """One pass; each method needs what those before it leave in `work`."""

    def __init__(
        self, layers: Layers, checkpoint: Checkpoint, recipe: Recipe, work: Work, ids: Tensor,
        progress: Progress,
    ) -> None:  # fmt: skip
        from distill.pruning.layers import DTYPES

        self.layers = checkpoint.config.num_hidden_layers
        self._model = layers
        self._config = checkpoint.config
        self._recipe = recipe
        self._work = work
        self._ids = ids
        self._dtype = DTYPES[recipe.dtype]
        self._step = max(1, _TOGETHER // recipe.length)
        self._count = Count(sum(self._rows(n) for n in range(self.layers + 1)), progress)

    def begin(self) -> None:
        """Leave hidden states in front of the first layer that is not measured yet."""
        done = self._work.done(self.layers)
        if done and not self._whole(done):  # a file was taken away
            self._work.forget()
            done = 0
        if done == 0:
            embed = self._model.embedding()
            with self._states(0, new=True) as made:
                for at in range(0, len(self._ids), self._step):
                    made.append(embed(self._ids[at : at + self._step]))
        self._count.add(sum(self._rows(n) for n in range(done)))

    def measure(self, n: int) -> None:
        """Measure layer `n`, and leave hidden states behind it."""
        import torch

        from distill.pruning.statistics import LayerSums

        layer, sums = self._model.layer(n), LayerSums()
        sample: list[Tensor] = []
        pieces, skipped = self._recipe.pieces, self._recipe.layer_loss
        with self._states(n) as given, self._states(n + 1, new=True) as made:
            with sums.watching(layer):
                self._through(layer, n, given, made, 0, pieces, sample)
            self._through(layer, n, given, made, pieces, self._rows(n), [])
            if skipped:
                made.append(given.read(0, skipped))
            made.flush()
        figures = sums.result(self._config.num_attention_heads)
        self._work.save(n, {**figures, "layers.sample": torch.cat(sample)})

    def end(self) -> tuple[Importance, float]:
        """What all layers gave, and the last norm, and the losses."""
        import torch

        from distill.pruning.layers import losses
        from distill.pruning.statistics import NormSums, angular_distances

        norm, head, sums = self._model.norm(), self._model.head(), NormSums()
        pieces, each = self._recipe.pieces, self._recipe.layer_loss
        found, sample = [], []
        with self._states(self.layers) as given:
            for at, stop in self._batches(0, self._rows(self.layers)):
                hidden = given.read(at, stop)
                normed = norm(hidden)
                if at < pieces:
                    sums.add(hidden, normed)
                    sample.append(self._sample(hidden, at))
                rows = [row if row < pieces else (row - pieces) % each for row in range(at, stop)]
                found.append(losses(normed, head, self._ids[rows]))
                self._count.add(stop - at)
        loss = torch.cat(found)
        whole = loss[:pieces].mean().item()
        if not np.isfinite(whole):
            raise DistillError("prune.not-finite", layer=self.layers)
        without = loss[pieces:].view(self.layers, each).mean(1) if each else None
        per_layer = [self._work.read(n) for n in range(self.layers)]

        def stacked(name: str) -> Tensor:
            return torch.stack([figures[name] for figures in per_layer])

        return (
            Importance(
                width=torch.cat([stacked("width.score").flatten(0, 1),
                                 sums.scores()[None]]).numpy(),
                mean_square=torch.cat([stacked("width.mean_square").flatten(0, 1),
                                       sums.mean_squares()[None]]).numpy(),
                ffn=stacked("ffn.score").numpy(),
                heads=stacked("heads.score").numpy(),
                influence=stacked("layers.influence").numpy(),
                distance=angular_distances(
                    torch.cat([stacked("layers.sample"), torch.cat(sample)[None]])
                ).numpy(),
                loss=None if without is None else (without - loss[:each].mean()).numpy(),
            ),
            whole,
        )  # fmt: skip

    def _rows(self, n: int) -> int:
        """Pieces in the file in front of layer `n`."""
        return self._recipe.pieces + n * self._recipe.layer_loss

    def _batches(self, start: int, stop: int) -> list[tuple[int, int]]:
        """Ranges that never hold both pieces that are watched and those that are not."""
        middle = max(start, min(stop, self._recipe.pieces))
        return [
            (at, min(at + self._step, to))
            for begin, to in ((start, middle), (middle, stop))
            for at in range(begin, to, self._step)
        ]

    def _through(self, layer: nn.Module, n: int, given: States, made: States,
                 start: int, stop: int, sample: list[Tensor]) -> None:  # fmt: skip
        for at, to in self._batches(start, stop):
            before = given.read(at, to)
            if at < self._recipe.pieces:
                sample.append(self._sample(before, at))
            hidden = self._model.through(layer, before)
            if not hidden.isfinite().all():
                raise DistillError("prune.not-finite", layer=n)
            made.append(hidden)
            self._count.add(to - at)

    def _sample(self, hidden: Tensor, start: int) -> Tensor:
        """Some tokens [S, W], float32, of hidden states [B, T, W] of the pieces from `start` on."""
        each, length = self._recipe.sampled, self._recipe.length
        step = -(-self._recipe.pieces // _SAMPLED_PIECES)
        rows = [n for n in range(len(hidden)) if (start + n) % step == 0]
        places = [length * (n + 1) // each - 1 for n in range(each)]
        return hidden[rows][:, places].flatten(0, 1).float()

    def _states(self, n: int, *, new: bool = False) -> States:
        from distill.pruning.states import States

        width, length = self._config.hidden_size, self._recipe.length
        return States(self._work.hidden(n), length, width, self._dtype, new=new)

    def _whole(self, n: int) -> bool:
        """Whether the file in front of layer `n` is there, all of it."""
        path = self._work.hidden(n)
        piece = self._recipe.length * self._config.hidden_size * self._dtype.itemsize
        return path.exists() and path.stat().st_size == self._rows(n) * piece
