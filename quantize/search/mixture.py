"""The best mixture of types within a budget, found by measuring and made by `gguf_bundle`.

    model ──▶ floats ──▶ sensitivity of each matrix ──▶ allocation ──▶ export with its gates

The floats are a working copy that is written into and thrown away; what was measured is kept
beside the result, so that another budget takes no new measurements.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from edge.bundle import Bundle
from edge.gguf_header import GGUFHeader, read_header
from edge.workshop import workshop
from quantize.checkpoint.floats import FLOATS
from quantize.checkpoint.source import open_source
from quantize.errors import QuantizeUsageError
from quantize.gates.predictions import DivergenceReport, compare_predictions
from quantize.ggml import blocks, quantizer
from quantize.ggml.export import export, export_vocabulary, widest
from quantize.ggml.quantizer import NEEDS_IMATRIX, Override, QuantizeOptions
from quantize.gguf_bundle import Stage, check_tokens, export_gguf
from quantize.measuring.built_in_texts import MEASURE
from quantize.measuring.calibration import LabelledText
from quantize.search import allocation
from quantize.search.notes import Sensitivity
from quantize.search.sensitivity import LEAST_ERROR, Settings, is_matrix, measure_sensitivity

if TYPE_CHECKING:
    from pydantic import JsonValue

    from edge.gguf_types import TensorInfo
    from quantize.ggml.imatrix import ImportanceMatrix

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

    def __post_init__(self) -> None:
        given = [value for value in (self.file_size, self.bits_per_weight, self.like) if value]
        if len(given) != 1:
            raise QuantizeUsageError("search.no-budget")
        if self.like in FLOATS:
            raise QuantizeUsageError("search.like-floats", type=self.like)


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
    grid: str | None
    """A format that the source's weights are exactly of: it was made from such a file."""

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
    most_kld: float | None = None,
    measured_on: Sequence[LabelledText] = MEASURE,
) -> Found:
    """Make the bundle `out` with the mixture that diverges least within a budget.

    Measurements are kept beside `out`.

    Args:
        source: a model folder of Hugging Face's layout, plain or a bundle.
        out: the folder to make.
        budget: how large it may be.
        settings: how matrices are measured.
        stage: told what is being done.
        most_kld: mean KL divergence, in nats, above which nothing is published; None: by size.
        measured_on: texts for the gate, other than those of `settings`.

    Raises:
        QuantizeUsageError: a type cannot be had without an importance matrix.
        QuantizeError: nothing is as small as the budget.
        LucieError: something of it fails; only the measurements are left.
    """
    if settings.imatrix is None:
        quantizer.check_blind(settings.types)
    common = QuantizeOptions("Q4_K_M", settings.imatrix, threads=settings.threads)
    if budget.like is not None:
        common = replace(common, type=budget.like)
        quantizer.check(common)
    opened = open_source(source, stage("verify"))
    with workshop(out) as folder:
        vocabulary = folder / "vocabulary.gguf"
        export_vocabulary(opened.checkpoint, vocabulary)
        check_tokens(opened.checkpoint, vocabulary, out, stage)
        floats = folder / "floats.gguf"
        export(opened.checkpoint, floats, widest(opened.checkpoint), progress=stage("floats"))
        header = read_header(floats)
        _check_types(header, settings.types)
        stock = _stock(floats, common, measured_on, stage) if budget.like is not None else None
        room = _room(budget, stock, header)
        shapes = [(t.shape[1], t.shape[0]) for t in _matrices(header)]
        allocation.require_room(shapes, settings.types, room)  # before hours of measuring
        beside = out.absolute().parent
        tensors = measure_sensitivity(
            floats, settings, beside, source.absolute().name, stage("sensitivity")
        )
    chosen = allocation.allocate(tensors, settings.types, room)
    predicted = sum(tensors[name].cost(kind) for name, kind in chosen.items())
    overrides = tuple(Override(f"^{re.escape(name)}$", kind) for name, kind in chosen.items())
    options = replace(common, type=_title(tensors, chosen, settings.imatrix), overrides=overrides)
    found_by: dict[str, JsonValue] = {
        "search": {
            **asdict(budget),
            "bytes for matrices": room,
            "predicted kld": predicted,
            "types": list(settings.types),
            "chunks": settings.chunks,
            "texts": [f"{text.label}={text.path.name}" for text in settings.texts],
        }
    }
    bundle = export_gguf(
        source, out, options, stage, texts=measured_on, most_kld=most_kld, found_by=found_by
    )
    return Found(bundle, chosen, predicted, stock, _grid(tensors))


def _check_types(header: GGUFHeader, types: tuple[str, ...]) -> None:
    """Before hours of measuring: every matrix has a type."""
    for tensor in _matrices(header):
        if not any(blocks.fits(kind, tensor.shape[0]) for kind in types):
            raise QuantizeUsageError(
                "search.no-type",
                types=", ".join(types), tensor=tensor.name, columns=tensor.shape[0],
            )  # fmt: skip


def _matrices(header: GGUFHeader) -> list[TensorInfo]:
    return [tensor for tensor in header.tensors if is_matrix(tensor.shape)]


def _grid(tensors: Mapping[str, Sensitivity]) -> str | None:
    """The format on whose grid most matrices stand: the source was quantized before."""
    found = Counter(
        kind
        for tensor in tensors.values()
        for kind, error in tensor.errors.items()
        if error < LEAST_ERROR and kind != "Q8_0"
    )
    kind, count = found.most_common(1)[0] if found else ("", 0)
    return kind if 2 * count > len(tensors) else None


def _stock(
    floats: Path, options: QuantizeOptions, texts: Sequence[LabelledText], stage: Stage
) -> Stock:
    target = floats.with_name("stock.gguf")
    quantizer.quantize(floats, target, options, stage("quantize"))
    report = compare_predictions(floats, target, texts, threads=options.threads, stage=stage)
    size = target.stat().st_size
    target.unlink()
    return Stock(options.type, size, report)


def _room(budget: Budget, stock: Stock | None, header: GGUFHeader) -> int:
    """Bytes that the weight matrices may take: the budget without all else that is in a file."""
    matrices = sum(t.n_bytes for t in _matrices(header))
    weights = sum(t.n_bytes for t in header.tensors)
    rest = header.file_size - matrices + _SLACK + _ALIGNMENT * len(header.tensors)
    if budget.bits_per_weight is not None:
        return int(budget.bits_per_weight * header.n_params / 8) - (weights - matrices)
    return (stock.file_size if stock else budget.file_size or 0) - rest


def _title(
    tensors: Mapping[str, Sensitivity],
    chosen: Mapping[str, str],
    imatrix: ImportanceMatrix | None,
) -> str:
    """The mixture that the file is called after: by the type that most of it has."""
    sizes: Counter[str] = Counter()
    for name, kind in chosen.items():
        sizes[kind] += blocks.size(kind, tensors[name].shape)
    most = sizes.most_common(1)[0][0]
    title = _MIXTURES.get(most, most)
    known = title in quantizer.TYPES
    return title if known and (imatrix is not None or title not in NEEDS_IMATRIX) else "Q4_K_M"
