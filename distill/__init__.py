"""From a large model to a small one: plan, prune, distil."""

__all__: list[str] = []
