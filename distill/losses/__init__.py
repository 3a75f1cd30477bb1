"""What a student is asked for: to say what the teacher says, or what the text says."""

__all__: list[str] = []
