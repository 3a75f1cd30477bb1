"""The corpus builder: real text from package registries, with licence and date on each document."""

__all__: list[str] = []
