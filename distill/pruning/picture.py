"""What a person looks at before deciding what to take away from a model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from distill.pruning.scores import Importance
from distill.words import say
from quantize.report.drawing import INK, LINE, PALE, drawing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

__all__ = ["draw"]


def draw(importance: Importance, path: Path) -> None:
    """Draw to an SVG file: the influence of each layer, and how scores are spread.

    Raises:
        OSError: it cannot be written.
    """
    with drawing(path, 9.6, 6.4) as figure:
        (layers, width), (ffn, heads) = figure.subplots(2, 2)
        _layers(layers, importance)
        _spread(width, importance.width.sum(0)[None], say("prune.width-title"))
        _spread(ffn, importance.ffn, say("prune.ffn-title"))
        _spread(heads, importance.heads, say("prune.heads-title"))


def _layers(axes: Axes, importance: Importance) -> None:
    n = np.arange(len(importance.influence))
    axes.bar(n, importance.influence, color=INK, label=say("prune.influence-label"))
    axes.set_yscale("log")
    axes.set_title(say("prune.layers-title"))
    axes.set_xlabel(say("prune.layer-axis"))
    if importance.loss is not None:
        other = axes.twinx()
        other.plot(n, importance.loss, color=LINE, lw=1, marker=".")
        other.set_yscale("symlog", linthresh=0.01)
        other.set_ylabel(say("prune.loss-label"), color=LINE)
    axes.legend(frameon=False)


def _spread(axes: Axes, scores: NDArray[np.float64], title: str) -> None:
    """Scores [L, C] of each layer, sorted, as shares of the layer's mean; the mean layer bold."""
    shares = np.sort(scores, axis=1)[:, ::-1] / np.maximum(scores.mean(1, keepdims=True), 1e-300)
    x = (np.arange(shares.shape[1]) + 0.5) / shares.shape[1]
    # SVG holds every point: hundreds tell as much as tens of thousands.
    at = np.unique(np.linspace(0, len(x) - 1, min(len(x), 200)).round().astype(int))
    if len(shares) > 1:
        for row in shares:
            axes.plot(x[at], row[at], color=PALE, lw=0.5)
    axes.plot(x[at], shares.mean(0)[at], color=INK, lw=1.5)
    axes.set_yscale("log")
    axes.set_title(title)
    axes.set_xlabel(say("prune.rank-axis"))
    axes.set_ylabel(say("prune.share-axis"))
    axes.grid(visible=True, which="major", alpha=0.25)
