"""ONNX Runtime as a reader: logits for every token of a text.

A graph that keeps the last token's state only is loaded with that step left out: nothing
else of it changes, and no file is written.
"""

from __future__ import annotations

from array import array
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge.device import detect
from edge.errors import DamagedModelError, EngineError
from edge.onnx_header import read_onnx
from edge.onnxrt.graph import load, run_errors
from edge.onnxrt.memory import Growing
from edge.onnxrt.vocab import Vocab
from edge.text import one_line
from quantize.graph.decoder import LAST_STATE
from quantize.measuring.aside import Aside
from quantize.measuring.text_reader import TextReader

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["GraphReader"]


class GraphReader(TextReader):
    """One loaded graph; the counterpart of `quantize.measuring.reading.Reader`.

    Args:
        path: an ONNX file in its model folder.
        chunk: tokens that are read together.
        threads: threads to compute with; 0: one for each core.

    Raises:
        ModelError: the file is damaged or of an unknown kind.
        EngineError: ONNX Runtime is not there.
    """

    def __init__(self, path: Path, chunk: int, threads: int) -> None:
        header = read_onnx(path)
        self.chunk = chunk
        self._graph = load(path, threads or detect().cpu.cores, _with_all_logits(path))
        from onnxruntime import RunOptions  # which may not be there: `load` says so

        self.vocab = Vocab(header, self._graph.n_vocab)
        self._memory = Growing(self._graph)
        self._options = RunOptions()
        self._aside = Aside(self._stop)

    def _stop(self) -> None:
        self._options.terminate = True

    def _forget(self) -> None:
        self._memory = Growing(self._graph)

    def _read_on(self, ids: array[int], first: int) -> NDArray[np.float32]:
        self._options.terminate = False
        try:
            logits = self._aside(self._memory.forward, ids, self._options)
        except run_errors() as error:
            raise EngineError("onnx.step-failed", reason=one_line(error)) from error
        self._memory.length += len(ids)
        return logits[first:]

    def close(self) -> None:
        """Free the model."""
        self._aside.close()
        del self._memory, self._graph


def _with_all_logits(path: Path) -> bytes | None:
    """The graph without the node that leaves the last token alone; None where it has none."""
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load(path, load_external_data=False)
    except (DecodeError, OSError) as error:
        raise DamagedModelError("onnx.refused", path=str(path), reason=one_line(error)) from error
    nodes = model.graph.node
    place = next((n for n, node in enumerate(nodes) if node.name == LAST_STATE), None)
    if place is None:
        return None
    skipped = nodes[place]
    for node in nodes:
        for n, name in enumerate(node.input):
            if name == skipped.output[0]:
                node.input[n] = skipped.input[0]
    del nodes[place]
    logits = next(each for each in model.graph.output if each.name == "logits")
    length: Any = logits.type.tensor_type.shape.dim[1]
    length.Clear()
    length.dim_param = "sequence_length"
    content: bytes = model.SerializeToString()
    return content
