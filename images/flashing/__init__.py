"""From an image file to cards: find them, write, read back."""

__all__: list[str] = []
