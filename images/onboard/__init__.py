"""What runs on the board: its settings, its first start."""

__all__: list[str] = []
