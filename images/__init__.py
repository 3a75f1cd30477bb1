"""Flashable SD-card images with a model on them. Not built yet."""

__all__: list[str] = []
