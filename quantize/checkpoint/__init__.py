"""A model folder of Hugging Face’s layout: what goes in."""

__all__: list[str] = []
