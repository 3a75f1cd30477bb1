"""The chat stage: a student answers prompts, and learns what its teacher thinks of each word."""

__all__: list[str] = []
