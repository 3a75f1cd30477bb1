"""What a student is asked for: to say what the teacher says, and to be inside as it is."""

__all__: list[str] = []
