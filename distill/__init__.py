"""From a large model to a small one: plan, prune, distil. Not built yet."""

__all__: list[str] = []
