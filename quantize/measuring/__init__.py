"""Reading texts with a model: what comes in at each matrix, what it predicts, how fast."""

__all__: list[str] = []
