"""What a model file is, whatever its format."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from edge.gguf_types import GGUFHeader
    from edge.onnx_header import OnnxHeader

__all__ = ["SUFFIXES", "Header", "read_model"]

Header: TypeAlias = "GGUFHeader | OnnxHeader"
SUFFIXES = (".gguf", ".onnx")
"""How the names of files end that an engine loads."""


def read_model(path: Path) -> Header:
    """Read and check what a model file says of itself; nothing of it is trusted.

    Raises:
        ModelError: it is damaged, or of a kind that is not understood.
    """
    if path.suffix == ".onnx":
        from edge.onnx_header import read_onnx

        return read_onnx(path)
    from edge.gguf_header import read_header

    return read_header(path)
