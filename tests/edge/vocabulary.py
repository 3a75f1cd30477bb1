"""The real model's tokenizer, without its weights."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from edge.llamacpp.native import api
from edge.llamacpp.vocab import Vocab


@cache
def vocabulary(path: Path) -> Vocab:
    params = api().llama_model_default_params()
    params.vocab_only = True
    model = api().llama_model_load_from_file(str(path).encode(), params)
    assert model
    return Vocab(model, path)
