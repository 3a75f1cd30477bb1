"""From a trained model to the files that boards run, checked against their source."""

__all__: list[str] = []
