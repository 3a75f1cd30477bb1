"""Measured figures, for people."""

__all__: list[str] = []
