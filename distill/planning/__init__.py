"""What to make of a teacher for a board, reckoned before anything is trained."""

__all__: list[str] = []
