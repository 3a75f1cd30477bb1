"""What an export must pass before it is published."""

__all__: list[str] = []
