"""llama.cpp's quantizer, called in a process of its own.

Little is imported here: the work does not begin before that.
"""

from __future__ import annotations

import ctypes
import logging
import math
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge.llamacpp.native import api, forget_errors, reason
from quantize.errors import QuantizeError
from quantize.own_process import Tell

__all__ = ["Order", "prepare", "quantize_file"]

_STEP = re.compile(r"^\[\s*(\d+)/\s*(\d+)\]")
_EVERY_S = 0.05
"""Between two words of progress, each of which holds up the work."""
_TEXT_BYTES = 128  # llama_model_kv_override
_TEXT, _INT = 3, 0  # llama_model_kv_override_type


@dataclass(frozen=True, slots=True)
class Order:
    """What `llama_model_quantize_params` says, with llama.cpp's numbers."""

    type: int
    pure: bool
    threads: int
    overrides: tuple[tuple[str, int], ...]
    """Patterns, and the type of the tensors that they are found in."""
    means: Mapping[str, bytes] = field(default_factory=dict)
    """By tensor: how much each input matters, float32."""
    origin: Mapping[str, str | int] = field(default_factory=dict)
    """What the file says of where they come from."""


def prepare() -> None:
    """Load llama.cpp."""
    api()


def quantize_file(tell: Tell, source: Path, target: Path, order: Order) -> None:
    """Write `target`.

    Args:
        tell: told tensors done and tensors in all.
        source: a GGUF file of floats.
        target: the file to make.
        order: how.

    Raises:
        QuantizeError: llama.cpp refuses.
    """
    native = api()
    log = logging.getLogger("edge.llamacpp")
    log.setLevel(logging.DEBUG)
    log.addHandler(_Steps(tell))
    params = native.llama_model_quantize_default_params()
    params.nthread = order.threads
    params.ftype = order.type
    params.pure = order.pure
    if order.overrides:
        params.tt_overrides = _overrides(native, order.overrides)
    if order.means:
        params.imatrix = _entries(native, order.means)
        params.kv_overrides = _origin(native, order.origin)
    forget_errors()
    path = os.fsencode(source), os.fsencode(target)
    if native.llama_model_quantize(*path, ctypes.byref(params)) != 0:
        raise QuantizeError("quantize.refused", path=str(source), reason=reason())


class _Steps(logging.Handler):
    """Reads progress from llama.cpp's log, the only place where it is told."""

    def __init__(self, tell: Tell) -> None:
        super().__init__(logging.DEBUG)
        self._tell = tell
        self._told_at = -math.inf

    def emit(self, record: logging.LogRecord) -> None:
        found = _STEP.match(record.getMessage().strip())
        if found:
            now, done, total = time.monotonic(), int(found[1]), int(found[2])
            if done == total or now - self._told_at >= _EVERY_S:
                self._told_at = now
                self._tell(done, total)


def _overrides(native: Any, overrides: tuple[tuple[str, int], ...]) -> Any:
    array = (native.llama_model_tensor_override * (len(overrides) + 1))()
    for place, (pattern, kind) in zip(array, overrides, strict=False):
        place.pattern = pattern.encode()
        place.type = kind
    return array


def _entries(native: Any, means: Mapping[str, bytes]) -> Any:
    array = (native.llama_model_imatrix_data * (len(means) + 1))()
    for place, (name, raw) in zip(array, means.items(), strict=False):
        place.name = name.encode()
        place.data = ctypes.cast(ctypes.c_char_p(raw), ctypes.POINTER(ctypes.c_float))
        place.size = len(raw) // ctypes.sizeof(ctypes.c_float)
    return array


def _origin(native: Any, facts: Mapping[str, str | int]) -> Any:
    array = (native.llama_model_kv_override * (len(facts) + 1))()
    for place, (name, value) in zip(array, facts.items(), strict=False):
        place.key = f"quantize.imatrix.{name}".encode()
        if isinstance(value, str):
            place.tag = _TEXT
            place.value.val_str = value.encode()[: _TEXT_BYTES - 1]
        else:
            place.tag = _INT
            place.value.val_i64 = value
    return array
