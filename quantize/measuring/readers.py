"""The reader for a file's format."""

from __future__ import annotations

from pathlib import Path

from quantize.measuring.reading import Reader
from quantize.measuring.text_reader import TextReader

__all__ = ["open_reader"]


def open_reader(path: Path, chunk: int, threads: int) -> TextReader:
    """A model, loaded to be read with.

    Args:
        path: a GGUF or ONNX file.
        chunk: tokens that are read together.
        threads: threads to compute with; 0: one for each core.

    Raises:
        ModelError: the file is damaged or of an unknown kind.
        EngineError: what computes it is not there, or memory is not.
    """
    if path.suffix == ".onnx":
        from quantize.measuring.graph_reading import GraphReader

        return GraphReader(path, chunk, threads)
    return Reader(path, chunk, threads)
