"""Flashable SD-card images with a model on them."""

__all__: list[str] = []
