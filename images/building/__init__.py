"""How a card is made of packages, an engine and a model."""

__all__: list[str] = []
