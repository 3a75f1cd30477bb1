"""From raw text to a base model: corpus, tokenizer, training, evaluation."""

__all__: list[str] = []
