"""The best mixture of types within a budget, found by measuring and made by `gguf_bundle`.

    model ──▶ floats ──▶ sensitivity of each matrix ──▶ allocation ──▶ export with its gates

The floats are a working copy that is written into and thrown away; what was measured is kept
beside the result, so that another budget takes no new measurements.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from edge.bundle import Bundle
from edge.gguf_header import GGUFHeader, read_header
from quantize import allocation, blocks, gguf_quantize
from quantize.built_in_texts import MEASURE
from quantize.calibration import LabelledText
from quantize.divergence_gate import DivergenceReport, compare_predictions
from quantize.errors import QuantizeUsageError
from quantize.gguf_bundle import Stage, export_gguf
from quantize.gguf_export import export, widest
from quantize.gguf_quantize import Override, QuantizeOptions
from quantize.sensitivity import Sensitivity, Settings, measure_sensitivity
from quantize.sources import open_source
from quantize.workshop import workshop

if TYPE_CHECKING:
    from pydantic import JsonValue

__all__ = ["TYPES", "Budget", "Found", "Stock", "search"]

TYPES = (
    "Q2_K", "Q3_K", "Q4_0", "Q4_1", "Q4_K", "IQ4_NL", "IQ4_XS", "Q5_0", "Q5_1", "Q5_K", "Q6_K",
    "Q8_0",
)  # fmt: skip
"""Those that boards multiply fast: no I-quants of less than four bits."""

_MIXTURES = {"Q2_K": "Q2_K", "Q3_K": "Q3_K_M", "Q4_K": "Q4_K_M", "Q5_K": "Q5_K_M"}
_SLACK = 2048
"""Bytes of metadata that quantizing adds."""
_ALIGNMENT = 32


@dataclass(frozen=True, slots=True)
class Budget:
    """How large the file may be; one of the three."""

    file_size: int | None = None
    """Bytes."""
    bits_per_weight: float | None = None
    like: str | None = None
    """As large as this mixture of llama.cpp's, which is measured as well."""


@dataclass(frozen=True, slots=True)
class Stock:
    """A mixture of llama.cpp's to compare with."""

    type: str
    file_size: int
    predictions: DivergenceReport


@dataclass(frozen=True, slots=True)
class Found:
    """What was made."""

    bundle: Bundle
    chosen: dict[str, str]
    """The type of each matrix."""
    predicted: float
    """Mean KL divergence, as the sum of all costs."""
    stock: Stock | None

    @property
    def types(self) -> list[tuple[str, int]]:
        """Types and for how many matrices they were chosen, most first."""
        return Counter(self.chosen.values()).most_common()


def search(
    source: Path,
    out: Path,
    budget: Budget,
    settings: Settings,
    stage: Stage,
    *,
    imatrix: Path | None = None,
    notes: Path | None = None,
    measured_on: Sequence[LabelledText] = MEASURE,
) -> Found:
    """Make the bundle `out` with the mixture that diverges least within a budget.

    Args:
        source: a model folder of Hugging Face's layout, plain or a bundle.
        out: the folder to make.
        budget: how large it may be.
        settings: how matrices are measured.
        stage: told what is being done.
        imatrix: the file of `settings.imatrix`.
        notes: where measurements are kept; None: `notes_of(source, out)`.
        measured_on: texts for the gate, other than those of `settings`.

    Raises:
        QuantizeError: nothing is as small as the budget.
        LucieError: something of it fails; only the measurements are left.
    """
    notes = notes or notes_of(source, out)
    opened = open_source(source, stage("verify"))
    common = QuantizeOptions("Q4_K_M", imatrix, threads=settings.threads)
    with workshop(out) as folder:
        floats = folder / "floats.gguf"
        export(opened.checkpoint, floats, widest(opened.checkpoint), progress=stage("floats"))
        header = read_header(floats)
        stock = None
        if budget.like is not None:
            options = replace(common, type=budget.like)
            stock = _stock(floats, options, measured_on, stage)
        tensors = measure_sensitivity(floats, settings, notes, stage("sensitivity"))
    room = _room(budget, stock, header, tensors)
    chosen = allocation.allocate(tensors, settings.types, room)
    predicted = sum(tensors[name].cost(kind) for name, kind in chosen.items())
    overrides = tuple(Override(f"^{re.escape(name)}$", kind) for name, kind in chosen.items())
    options = replace(common, type=_title(tensors, chosen), overrides=overrides)
    figures: dict[str, JsonValue] = {"bytes for matrices": room, "predicted kld": predicted}
    bundle = export_gguf(
        source, out, options, stage, texts=measured_on, found_by={"search": figures}
    )
    return Found(bundle, chosen, predicted, stock)


def notes_of(source: Path, out: Path) -> Path:
    """Where measurements of a model are kept: beside what is made of it."""
    return out.absolute().parent / f"{source.absolute().name}.sensitivity.json"


def _stock(
    floats: Path, options: QuantizeOptions, texts: Sequence[LabelledText], stage: Stage
) -> Stock:
    target = floats.with_name("stock.gguf")
    gguf_quantize.quantize(floats, target, options, stage("quantize"))
    report = compare_predictions(floats, target, texts, threads=options.threads, stage=stage)
    size = target.stat().st_size
    target.unlink()
    return Stock(options.type, size, report)


def _room(
    budget: Budget, stock: Stock | None, header: GGUFHeader, tensors: dict[str, Sensitivity]
) -> int:
    """Bytes that the weight matrices may take: the budget without all else that is in a file."""
    matrices = sum(t.n_bytes for t in header.tensors if t.name in tensors)
    weights = sum(t.n_bytes for t in header.tensors)
    rest = header.file_size - matrices + _SLACK + _ALIGNMENT * len(header.tensors)
    if budget.bits_per_weight is not None:
        return int(budget.bits_per_weight * header.n_params / 8) - (weights - matrices)
    file_size = stock.file_size if stock else budget.file_size
    if file_size is None:
        raise QuantizeUsageError("search.no-budget")
    return file_size - rest


def _title(tensors: dict[str, Sensitivity], chosen: dict[str, str]) -> str:
    """The mixture that the file is called after: by the type that most of it has."""
    sizes: Counter[str] = Counter()
    for name, kind in chosen.items():
        sizes[kind] += blocks.size(kind, tensors[name].shape)
    most = sizes.most_common(1)[0][0]
    return _MIXTURES.get(most, most)
