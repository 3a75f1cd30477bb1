"""What can be said of a model's shape before it exists: the helpers that other parts call."""

from __future__ import annotations

from distill.planning.speed import Speed, predict
from distill.planning.storage import bytes_per_token, file_bytes, kv_bytes_per_token
from distill.slices import is_slice, kept, resized

__all__ = [
    "Speed",
    "bytes_per_token",
    "file_bytes",
    "is_slice",
    "kept",
    "kv_bytes_per_token",
    "predict",
    "resized",
]
