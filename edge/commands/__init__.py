"""The commands of `lucie`, each imported only when it is called."""

__all__: list[str] = []
