"""From raw text to a base model: corpus, tokenizer, training, evaluation. Not built yet."""

__all__: list[str] = []
