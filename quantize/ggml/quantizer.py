"""From a GGUF file of floats to one of a smaller type, by llama.cpp's own quantizer.

It runs in a process of its own: a call into it cannot be stopped from Python, and a file
that it does not like ends the process. Ctrl-C ends that process and removes what it had
written.
"""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from edge.errors import StoreError
from edge.gguf_header import read_header
from edge.gguf_types import FILE_TYPES, TENSOR_TYPES
from edge.llamacpp.native import api, forget_errors, reason
from edge.progress import Progress
from quantize.errors import QuantizeError, QuantizeUsageError
from quantize.ggml.imatrix import ImportanceMatrix
from quantize.own_process import DiedError, Tell, in_own_process

__all__ = [
    "NEEDS_IMATRIX",
    "TYPES",
    "Override",
    "QuantizeOptions",
    "check",
    "check_blind",
    "check_tensors",
    "quantize",
]

_FLOATS = frozenset({"F32", "F16", "BF16"})
_STEP = re.compile(r"^\[\s*(\d+)/\s*(\d+)\]")
_KEY_BYTES = _TEXT_BYTES = 128  # llama_model_kv_override
_TEXT, _INT = 3, 0  # llama_model_kv_override_type
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
    imatrix: Path | None = None
    """File of an importance matrix."""
    overrides: tuple[Override, ...] = ()
    """The first that matches counts."""
    pure: bool = False
    """All tensors of the same type instead of a mixture."""
    threads: int = 0
    """0: one for each core."""


def quantize(
    source: Path, target: Path, options: QuantizeOptions, progress: Progress | None = None
) -> None:
    """Write `target`, all or nothing.

    Args:
        source: a GGUF file of floats.
        target: the file to make, which must not be there yet.
        options: what to make.
        progress: called with tensors done and tensors in all.

    Raises:
        ModelError: `source` is damaged or of an unknown architecture.
        QuantizeUsageError: an unknown type or a wrong pattern; a type that cannot be had
            without an importance matrix; `source` is quantized already.
        QuantizeError: llama.cpp refuses.
        StoreError: `target` is there already.
        OSError: the disk is full.
    """
    check(options)
    _check_files(source, target, options)
    draft = target.with_name(f".{target.name}.part")
    try:
        in_own_process(_quantize, source, draft, options, told=progress)
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
    check_tensors(options, {tensor.name: tensor.shape[0] for tensor in header.tensors})


def check_tensors(options: QuantizeOptions, widths: Mapping[str, int]) -> None:
    """See that patterns and the importance matrix are about this model.

    llama.cpp would not tell, or only when it comes to the tensor.

    Args:
        options: how it is to be quantized.
        widths: columns of each of its tensors.

    Raises:
        QuantizeUsageError: a pattern is found in no name, or asks for a type that its tensors
            cannot have without an importance matrix.
        LucieError: the importance matrix cannot be read, or is another model's.
    """
    for override in options.overrides:
        if not any(re.search(override.pattern, name) for name in widths):
            raise QuantizeUsageError("quantize.no-match", pattern=override.pattern)
    if options.imatrix is not None:
        ImportanceMatrix.read(options.imatrix).require(widths)
    else:
        check_blind(_overridden(options, (name for name in widths if name not in _BLIND)))


def _overridden(options: QuantizeOptions, names: Iterable[str]) -> Iterator[str]:
    """The types that overrides give to these tensors."""
    for name in names:
        first = (each.type for each in options.overrides if re.search(each.pattern, name))
        yield from islice(first, 1)


def _names() -> str:
    return ", ".join(TYPES)


# --- in the worker --------------------------------------------------------------------------


class _Steps(logging.Handler):
    """Reads progress from llama.cpp's log, the only place where it is told."""

    def __init__(self, tell: Tell) -> None:
        super().__init__(logging.DEBUG)
        self._tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        found = _STEP.match(record.getMessage().strip())
        if found:
            self._tell(int(found[1]), int(found[2]))


def _quantize(tell: Tell, source: Path, draft: Path, options: QuantizeOptions) -> None:
    native = api()
    log = logging.getLogger("edge.llamacpp")
    log.setLevel(logging.DEBUG)
    log.addHandler(_Steps(tell))
    params = native.llama_model_quantize_default_params()
    params.nthread = options.threads
    params.ftype = TYPES[options.type]
    params.pure = options.pure
    keep: list[Any] = []  # what the structure points to
    if options.overrides:
        params.tt_overrides = _overrides(native, options.overrides)
    if options.imatrix is not None:
        matrix = ImportanceMatrix.read(options.imatrix)
        params.imatrix = _entries(native, matrix, keep)
        params.kv_overrides = _origin(native, options.imatrix.name, matrix)
    forget_errors()
    path = os.fsencode(source), os.fsencode(draft)
    if native.llama_model_quantize(*path, ctypes.byref(params)) != 0:
        raise QuantizeError("quantize.refused", path=str(source), reason=reason())


def _overrides(native: Any, overrides: tuple[Override, ...]) -> Any:
    array = (native.llama_model_tensor_override * (len(overrides) + 1))()
    for place, override in zip(array, overrides, strict=False):
        place.pattern = override.pattern.encode()
        place.type = _TENSOR_TYPES[override.type]
    return array


def _entries(native: Any, matrix: ImportanceMatrix, keep: list[Any]) -> Any:
    array = (native.llama_model_imatrix_data * (len(matrix.entries) + 1))()
    for place, (name, entry) in zip(array, matrix.entries.items(), strict=False):
        means = entry.means
        keep.append(means)
        place.name = name.encode()
        place.data = means.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
        place.size = means.size
    return array


def _origin(native: Any, file: str, matrix: ImportanceMatrix) -> Any:
    """What the quantized file says of its importance matrix, as llama-quantize writes it."""
    texts = {"file": file}
    if matrix.datasets:
        texts["dataset"] = matrix.datasets[0]
    numbers = {"entries_count": len(matrix.entries)}
    if matrix.chunk_count > 0:
        numbers["chunks_count"] = matrix.chunk_count
    array = (native.llama_model_kv_override * (len(texts) + len(numbers) + 1))()
    for place, (name, value) in zip(array, (texts | numbers).items(), strict=False):
        place.key = f"quantize.imatrix.{name}".encode()
        if isinstance(value, str):
            place.tag = _TEXT
            place.value.val_str = value.encode()[: _TEXT_BYTES - 1]
        else:
            place.tag = _INT
            place.value.val_i64 = value
    return array
