"""The engine on llama.cpp, through llama-cpp-python's low-level C API."""

from edge.llamacpp.engine import LlamaEngine

__all__ = ["LlamaEngine"]
