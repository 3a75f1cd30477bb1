"""GGUF files and the formats of their tensors, both ways."""

__all__: list[str] = []
