"""A card is started in an emulator."""
