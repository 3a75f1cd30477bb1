"""The type of each weight matrix, chosen by what it costs."""

__all__: list[str] = []
