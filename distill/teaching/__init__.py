"""What a teacher says, as it speaks or from a cache of what it said."""

__all__: list[str] = []
