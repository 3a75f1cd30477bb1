"""Healing: a quantized model trained to say again what its floats say."""

__all__: list[str] = []
