"""The engine on ONNX Runtime."""

from edge.onnxrt.engine import OnnxEngine

__all__ = ["OnnxEngine"]
