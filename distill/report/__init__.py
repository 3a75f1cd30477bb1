"""What was lost and what came back, at each step between a teacher and its student."""

__all__: list[str] = []
