"""A card is started in an emulator."""

__all__: list[str] = []
