"""What is told of a finished image: its components, and how Raspberry Pi Imager offers it."""

__all__: list[str] = []
