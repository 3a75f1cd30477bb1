"""The gate of every quantized export: it must still say nearly what its source says.

Measured on texts of five languages and code, and published with the file:

- the figures of `measuring.divergence` (KL divergence, perplexity ratio, same top), for each
  language and over all;
- *greedy agreement*: both continue a text with their likeliest tokens; how many are equal
  before the first that is not, as a share.

The limits tell a broken file (wrong scales, rows out of order, a matrix of another model)
from a small one; whether the small one is good enough is for `compare` and its reader.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

import numpy as np

from edge.progress import Count, Progress
from quantize.errors import QuantizeError
from quantize.measuring.calibration import LabelledText, balanced
from quantize.measuring.candidates import ALL, measure
from quantize.measuring.divergence import Estimate, Figures
from quantize.measuring.readers import open_reader

__all__ = ["DivergenceReport", "compare_predictions", "limit"]

_CHUNKS = 12
"""Pieces of 512 tokens; two of each of our texts."""
_PROMPTS, _PROMPT, _ANSWER = 24, 48, 32
"""For greedy agreement: how many, and tokens of each and of its continuation."""
_LIMITS = ((15.0, 0.02), (7.5, 0.1), (4.0, 1.5), (3.0, 3.0), (0.0, 6.0))
"""From so many bits per weight on, so much mean KL divergence (nats) at most."""


@dataclass(frozen=True, slots=True)
class DivergenceReport:
    """A quantized file against the floats that it was made of."""

    figures: dict[str, Figures]
    """For each language, and for `ALL`."""
    greedy: Estimate
    """A share, 0 to 1."""

    def require(self, path: Path, most: float, code: str = "gate.divergence") -> None:
        """Raise `QuantizeError` if the mean KL divergence in any language is above `most`, or none.

        Args:
            path: what is not published then.
            most: nats.
            code: of the error, whose text says what to do.
        """
        for label, figures in self.figures.items():
            if not isfinite(figures.kld.value):
                raise QuantizeError("gate.no-numbers", path=str(path), label=label)
            if figures.kld.value > most:
                raise QuantizeError(
                    code,
                    path=str(path),
                    label=label,
                    kld=figures.kld.value,
                    most=most,
                )

    def require_nearer(self, path: Path, plain: DivergenceReport) -> None:
        """Raise `QuantizeError` unless this diverges less, over all, than a plain file does."""
        kld, other = (each.figures[ALL].kld.value for each in (self, plain))
        if not kld < other:
            raise QuantizeError("heal.worse", path=str(path), kld=kld, plain=other)

    def metrics(self) -> dict[str, float]:
        """For a manifest; ± is the standard error."""
        found = {}
        for label, figures in self.figures.items():
            for name in ("kld", "ppl_ratio", "same_top"):
                estimate: Estimate = getattr(figures, name)
                title = name.replace("_", " ")
                found[f"{title}, {label}"] = estimate.value
                found[f"{title}, {label}, ±"] = estimate.error
            found[f"kld 99 %, {label}"] = figures.kld_99
        found["greedy agreement"] = self.greedy.value
        found["greedy agreement, ±"] = self.greedy.error
        return found


def limit(bits_per_weight: float) -> float:
    """The most that a sound file may diverge: mean KL divergence in nats."""
    return next(most for bits, most in _LIMITS if bits_per_weight >= bits)


def compare_predictions(
    source: Path,
    export: Path,
    texts: Sequence[LabelledText],
    *,
    threads: int = 0,
    stage: Callable[[str], Progress],
) -> DivergenceReport:
    """Measure how far `export` is from `source`.

    Args:
        source: a GGUF file of floats.
        export: a file that was made of the same.
        texts: what to read, equally much of each.
        threads: threads to compute with; 0: one for each core.
        stage: called as each part begins (`divergence`, `greedy`); gives what shows how far it is.

    Raises:
        ModelError: a model is damaged or of an unknown kind.
        QuantizeError: a text is too short or cannot be read.
    """
    figures = measure(
        source, [export], texts, chunks=_CHUNKS, threads=threads, progress=stage("divergence")
    )
    greedy = greedy_agreement(source, export, texts, threads, stage("greedy"))
    return DivergenceReport(figures[0], greedy)


def greedy_agreement(
    source: Path,
    export: Path,
    texts: Sequence[LabelledText],
    threads: int,
    progress: Progress | None = None,
) -> Estimate:
    """Share of the source's likeliest continuation that the export would have given, too."""
    shares = []
    size = _PROMPT + _ANSWER
    with (
        closing(open_reader(source, size, threads)) as judge,
        closing(open_reader(export, size, threads)) as reader,
    ):
        prompts = balanced(texts, reader.tokens, _PROMPT, _PROMPTS)
        count = Count(len(prompts), progress)
        for prompt in prompts:
            answers = (each.continue_greedily(prompt.ids, _ANSWER) for each in (judge, reader))
            shares.append(_agreed(*answers) / _ANSWER)
            count.add(1)
    error = float(np.std(shares) / np.sqrt(max(1, len(shares) - 1)))
    return Estimate(float(np.mean(shares)), error)


def _agreed(expected: array[int], found: array[int]) -> int:
    """How many tokens are equal before the first that is not."""
    pairs = enumerate(zip(expected, found, strict=True))
    return next((at for at, (ours, theirs) in pairs if ours != theirs), len(expected))
