"""Exporters of others, for those who know them: each in an environment of its own."""

__all__: list[str] = []
