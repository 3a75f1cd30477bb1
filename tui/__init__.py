"""The terminal chat. It talks to an engine through a server only (`edge.client`)."""

from __future__ import annotations

__all__: list[str] = []
