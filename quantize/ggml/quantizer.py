"""From a GGUF file of floats to one of a smaller type, by llama.cpp's own quantizer.

It runs in a process of its own: a call into it cannot be stopped from Python, and a file
that it does not like ends the process. Ctrl-C ends that process and removes what it had
written.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from edge.errors import StoreError
from edge.gguf_header import read_header
from edge.gguf_types import FILE_TYPES, TENSOR_TYPES, TensorInfo
from edge.progress import Progress
from quantize.errors import QuantizeError, QuantizeUsageError
from quantize.ggml.imatrix import ImportanceMatrix
from quantize.ggml.native_quantizer import Order, prepare, quantize_file
from quantize.own_process import DiedError, OwnProcess

__all__ = [
    "NEEDS_IMATRIX",
    "TYPES",
    "Override",
    "QuantizeOptions",
    "check",
    "check_blind",
    "check_tensors",
    "count_fallbacks",
    "quantize",
    "start",
]

_FLOATS = frozenset({"F32", "F16", "BF16"})
_NOT_CPP = r"\(\?[^:=!]"
"""What Python's regular expressions have, and C++'s (ECMAScript of 1999) have not."""
_SUPER_BLOCKS = r"_K|^IQ(?!4_NL)|^TQ"
"""Mixtures of types whose blocks are of 256 weights, as K- and I-quants are."""
_NO_ROOM = 1 << 20
"""Bytes; a disk that has no more is full, whatever the file system keeps for itself."""

TYPES: dict[str, int] = {name: number for number, name in FILE_TYPES.items()}
"""Every mixture that llama.cpp's quantizer makes, by the name under which files are posted."""

_TENSOR_TYPES = {kind.name: number for number, kind in TENSOR_TYPES.items()}

_NEVER_BLIND = frozenset({"IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS"})
"""Tensor types that the quantizer refuses where it does not know which inputs matter, of all
tensors but the embedding and the output matrix (`tensor_requires_imatrix` in llama.cpp)."""
NEEDS_IMATRIX = _NEVER_BLIND | {"IQ2_M", "IQ3_XS", "Q2_K_S"}
"""Mixtures that it refuses without an importance matrix: they have such tensors."""
_BLIND = ("token_embd.weight", "output.weight")
"""Tensors for which it does without."""


@dataclass(frozen=True, slots=True)
class Override:
    """A type for the tensors whose name a pattern is found in."""

    pattern: str
    """A regular expression of C++ (ECMAScript), e.g. `ffn_down` or `blk\\.(0|1)\\.`."""
    type: str
    """A tensor type, e.g. `Q6_K`."""


@dataclass(frozen=True, slots=True)
class QuantizeOptions:
    """What llama-quantize's command line says."""

    type: str
    """One of `TYPES`."""
    imatrix: ImportanceMatrix | None = None
    overrides: tuple[Override, ...] = ()
    """The first that matches counts."""
    pure: bool = False
    """All tensors of the same type instead of a mixture."""
    threads: int = 0
    """0: one for each core."""


def start() -> OwnProcess:
    """The process for one quantization: it takes a while to start, and may do so beforehand."""
    return OwnProcess(quantize_file, prepare)


def quantize(
    source: Path,
    target: Path,
    options: QuantizeOptions,
    progress: Progress | None = None,
    process: OwnProcess | None = None,
) -> None:
    """Write `target`, all or nothing.

    Args:
        source: a GGUF file of floats.
        target: the file to make, which must not be there yet.
        options: what to make.
        progress: called with tensors done and tensors in all.
        process: what `start` gave, which is ended afterwards; None: it is started now.

    Raises:
        ModelError: `source` is damaged or of an unknown architecture.
        QuantizeUsageError: an unknown type or a wrong pattern; a type that cannot be had
            without an importance matrix; `source` is quantized already.
        QuantizeError: llama.cpp refuses.
        StoreError: `target` is there already.
        OSError: the disk is full.
    """
    check(options)
    draft = target.with_name(f".{target.name}.part")
    try:
        with process or start() as started:
            started.begin(source, draft, _order(options))
            _check_files(source, target, options)  # meanwhile: it fails, or dies, by itself
            started.result(progress)
        draft.rename(target)
    except DiedError as error:
        raise QuantizeError("quantize.died", path=str(source), how=error.how) from error
    except QuantizeError as error:
        # llama.cpp says "iostream error", and has written until nothing was left.
        if shutil.disk_usage(target.parent).free < _NO_ROOM:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
        raise
    finally:
        draft.unlink(missing_ok=True)


def check(options: QuantizeOptions) -> None:
    """See that options can be met, before anything is done.

    Raises:
        QuantizeUsageError: an unknown type, or one that cannot be had without an importance
            matrix; a wrong pattern.
    """
    if options.type not in TYPES:
        raise QuantizeUsageError("quantize.unknown-type", type=options.type, known=_names())
    if options.type in NEEDS_IMATRIX and options.imatrix is None:
        raise QuantizeUsageError("quantize.needs-imatrix", type=options.type)
    for override in options.overrides:
        if override.type not in _TENSOR_TYPES:
            known = ", ".join(_TENSOR_TYPES)
            raise QuantizeUsageError("quantize.unknown-type", type=override.type, known=known)
        if re.search(_NOT_CPP, override.pattern):
            raise QuantizeUsageError("quantize.dialect", pattern=override.pattern)
        try:
            re.compile(override.pattern)
        except re.error as error:
            raise QuantizeUsageError(
                "quantize.pattern", pattern=override.pattern, reason=str(error)
            ) from error


def check_blind(types: Iterable[str]) -> None:
    """See that tensor types can be had without an importance matrix.

    Raises:
        QuantizeUsageError: one cannot.
    """
    for kind in types:
        if kind in _NEVER_BLIND:
            raise QuantizeUsageError("quantize.needs-imatrix", type=kind)


def _check_files(source: Path, target: Path, options: QuantizeOptions) -> None:
    if target.exists():
        raise StoreError("bundle.exists", path=str(target))
    header = read_header(source)
    done = sorted({tensor.type for tensor in header.tensors} - _FLOATS)
    if done:
        raise QuantizeUsageError("quantize.already", path=str(source), type=", ".join(done))
    matrices = (tensor for tensor in header.tensors if len(tensor.shape) > 1)
    check_tensors(options, {tensor.name: tensor.shape[0] for tensor in matrices})


def check_tensors(options: QuantizeOptions, widths: Mapping[str, int]) -> None:
    """See that patterns and the importance matrix are about this model.

    llama.cpp would not tell, or only when it comes to the tensor.

    Args:
        options: how it is to be quantized.
        widths: columns of each of its matrices; what is no matrix stays as it is.

    Raises:
        QuantizeUsageError: a pattern is found in no name, or asks for a type that its tensors
            cannot have without an importance matrix.
        QuantizeError: the importance matrix is another model's.
    """
    for override in options.overrides:
        if not any(re.search(override.pattern, name) for name in widths):
            raise QuantizeUsageError("quantize.no-match", pattern=override.pattern)
    if options.imatrix is not None:
        options.imatrix.require(widths)
    else:
        check_blind(_overridden(options, (name for name in widths if name not in _BLIND)))


def count_fallbacks(options: QuantizeOptions, tensors: Iterable[TensorInfo]) -> int:
    """How many matrices of the file cannot have the mixture's types, whose blocks hold 256
    weights of a row, and have got larger ones (llama.cpp falls back without failing)."""
    if not re.search(_SUPER_BLOCKS, options.type):
        return 0
    chosen = [each.pattern for each in options.overrides]
    matrices = (tensor for tensor in tensors if len(tensor.shape) > 1 and tensor.shape[0] % 256)
    return sum(not any(re.search(each, tensor.name) for each in chosen) for tensor in matrices)


def _overridden(options: QuantizeOptions, names: Iterable[str]) -> Iterator[str]:
    """The types that overrides give to these tensors."""
    for name in names:
        first = (each.type for each in options.overrides if re.search(each.pattern, name))
        yield from islice(first, 1)


def _names() -> str:
    return ", ".join(TYPES)


def _order(options: QuantizeOptions) -> Order:
    """The options in numbers and bytes."""
    overrides = tuple((each.pattern, _TENSOR_TYPES[each.type]) for each in options.overrides)
    order = Order(TYPES[options.type], options.pure, options.threads, overrides)
    if options.imatrix is None:
        return order
    means = {name: entry.means.tobytes() for name, entry in options.imatrix.entries.items()}
    return replace(order, means=means, origin=_origin(options.imatrix))


def _origin(matrix: ImportanceMatrix) -> dict[str, str | int]:
    """What the quantized file says of its importance matrix, as llama-quantize writes it."""
    facts: dict[str, str | int] = {"file": matrix.file}
    if matrix.datasets:
        facts["dataset"] = matrix.datasets[0]
    facts["entries_count"] = len(matrix.entries)
    if matrix.chunk_count > 0:
        facts["chunks_count"] = matrix.chunk_count
    return facts
