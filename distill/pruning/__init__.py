"""Which parts of a model matter, and a smaller model of those that do."""

__all__: list[str] = []
