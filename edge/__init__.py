"""The runtime: from a model file to an OpenAI-compatible server on a small board."""

__all__ = ["__version__"]

__version__ = "0.1.0"
