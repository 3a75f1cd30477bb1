"""Loading a graph into ONNX Runtime, and what it asks for and gives.

A decoder with a KV cache as exporters write it (ours, onnxruntime-genai's, optimum's) has

    input_ids [B, S]   attention_mask [B, T]   past_key_values.n.key, .value [B, KV, P, D]
    logits [B, S, V] or [B, 1, V]              present.n.key, .value         [B, KV, T, D]

and may want position_ids [B, S]. Anything else is refused.
"""

from __future__ import annotations

import mmap
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge.errors import DamagedModelError, EngineError, ModelError
from edge.text import one_line

if TYPE_CHECKING:
    import numpy as np

__all__ = ["Graph", "load", "run_errors"]

_PAST = re.compile(r"past_key_values\.(\d+)\.(key|value)")
_TYPES = {"tensor(float)": "float32", "tensor(float16)": "float16"}
_SHARING = b"GroupQueryAttention"
"""The operator that writes new keys and values into the buffer of the old ones."""
_FATAL = 4
_WEIGHTS_FOLDER = "session.model_external_initializers_file_folder_path"


@dataclass(frozen=True, slots=True)
class Graph:
    """A loaded graph."""

    session: Any
    """`onnxruntime.InferenceSession`."""
    n_layer: int
    n_head_kv: int
    head_dim: int
    dtype: np.dtype[Any]
    """Of keys and values."""
    n_vocab: int
    last_only: bool
    """Whether logits are those after the last token of a step only."""
    wants_positions: bool
    in_place: bool
    """Whether past and present may be one buffer."""

    @property
    def caches(self) -> list[tuple[str, str]]:
        """Names of what goes in and of what comes out of each layer's keys and values."""
        return [
            (f"past_key_values.{n}.{part}", f"present.{n}.{part}")
            for n in range(self.n_layer)
            for part in ("key", "value")
        ]

    @property
    def token_bytes(self) -> int:
        """Of keys and values of one token."""
        return 2 * self.n_layer * self.n_head_kv * self.head_dim * self.dtype.itemsize


def load(path: Path, threads: int, content: bytes | None = None) -> Graph:
    """Load the model at `path`.

    Args:
        path: an ONNX file, which is not trusted; its weights may stand beside it.
        threads: threads to compute with.
        content: what to read instead of the file itself.

    Raises:
        EngineError: ONNX Runtime is not installed.
        ModelError: the file cannot be read.
        DamagedModelError: ONNX Runtime refuses it, or it is no decoder with a KV cache.
    """
    runtime = _runtime()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _FATAL  # what fails is raised
    options.add_session_config_entry(_WEIGHTS_FOLDER, str(path.parent))
    source = str(path) if content is None else content
    try:
        in_place = _contains(path, _SHARING)
        session = runtime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except OSError as error:
        raise ModelError("gguf.unreadable", path=str(path), reason=error.strerror or "") from error
    except run_errors() as error:
        raise DamagedModelError(
            "onnx.refused", path=str(path), reason=one_line(_plain(error))
        ) from error
    return _described(path, session, in_place)


@cache
def _runtime() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise EngineError("onnx.not-installed", reason=one_line(error)) from error
    onnxruntime.set_default_logger_severity(_FATAL)
    return onnxruntime


@cache
def run_errors() -> tuple[type[Exception], ...]:
    """Whatever ONNX Runtime raises."""
    _runtime()
    from onnxruntime.capi import onnxruntime_pybind11_state as native

    own = [
        each for each in vars(native).values()
        if isinstance(each, type) and issubclass(each, Exception)
    ]  # fmt: skip
    return (RuntimeError, ValueError, *own)


def _contains(path: Path, wanted: bytes) -> bool:
    with path.open("rb") as file:
        if path.stat().st_size == 0:
            return False
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as pages:
            return pages.find(wanted) >= 0


def _plain(error: Exception) -> str:
    """ONNX Runtime's message without the class of the error, and the places in its source."""
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", str(error))
    return re.sub(r"\s*\S+\.(cc|h):\d+.*", "", text, flags=re.DOTALL).rstrip(". ")


def _described(path: Path, session: Any, in_place: bool) -> Graph:
    import numpy as np

    def damaged(what: str) -> DamagedModelError:
        return DamagedModelError("onnx.no-decoder", path=str(path), reason=one_line(what))

    given = {each.name: each for each in session.get_inputs()}
    made = {each.name: each for each in session.get_outputs()}
    past = [name for name in given if _PAST.fullmatch(name)]
    for name in ("input_ids", "attention_mask"):
        if name not in given:
            raise damaged(name)
    for name in given.keys() - set(past) - {"input_ids", "attention_mask", "position_ids"}:
        raise damaged(name)
    if not past or len(past) % 2 or "logits" not in made:
        raise damaged("logits, past_key_values")
    cache, logits = given["past_key_values.0.key"], made["logits"]
    shape = cache.shape
    if cache.type not in _TYPES or len(shape) != 4 or len(logits.shape) != 3:
        raise damaged(f"{cache.name}: {cache.type} {shape}")
    if not all(isinstance(size, int) for size in (shape[1], shape[3], logits.shape[2])):
        raise damaged(f"{cache.name}: {shape}, logits: {logits.shape}")
    graph = Graph(
        session=session,
        n_layer=len(past) // 2,
        n_head_kv=shape[1],
        head_dim=shape[3],
        dtype=np.dtype(_TYPES[cache.type]),
        n_vocab=logits.shape[2],
        last_only=logits.shape[1] == 1,
        wants_positions="position_ids" in given,
        in_place=in_place,
    )
    for name, output in graph.caches:
        if name not in given or output not in made or given[name].type != cache.type:
            raise damaged(name)
    return graph
