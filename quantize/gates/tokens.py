"""The first gate of an export: its tokenizer gives the ids that the source's gives.

A model that reads other tokens than it learned still answers, and worse; nothing else
shows it. So thousands of texts go through both tokenizers, and back to text again.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from edge.checkpoint import Checkpoint
from edge.errors import DamagedModelError
from edge.llamacpp.native import api, forget_errors, reason
from edge.llamacpp.vocab import Vocab
from edge.onnx_header import read_onnx
from edge.onnxrt.vocab import Vocab as GraphVocab
from edge.progress import Count, Progress
from edge.tokenizer_file import open_tokenizer
from quantize.errors import QuantizeError
from quantize.measuring.text_reader import ReaderVocab

__all__ = ["Difference", "TokenReport", "compare_tokens", "vocabulary"]

_KEPT = 10


@dataclass(frozen=True, slots=True)
class Difference:
    """A text on which the tokenizers differ."""

    text: str
    source: tuple[int, ...]
    export: tuple[int, ...]


@dataclass
class TokenReport:
    """How often the tokenizers agreed."""

    texts: int = 0
    tokens: int = 0
    same_ids: int = 0
    same_text: int = 0
    """How often decoding the source's ids gave the same text."""
    differences: list[Difference] = field(default_factory=list)
    """The first few."""

    @property
    def passed(self) -> bool:
        """Whether they always agreed, on one text at least."""
        return self.texts > 0 and self.same_ids == self.texts and self.same_text == self.texts

    def require(self, path: Path) -> None:
        """Raise `QuantizeError` unless they always agreed."""
        if self.passed:
            return
        if self.differences:
            first = self.differences[0]
            raise QuantizeError(
                "gate.tokens",
                path=str(path),
                count=self.texts - self.same_ids,
                texts=self.texts,
                text=ascii(first.text[:60]),
            )
        raise QuantizeError(
            "gate.text", path=str(path), count=self.texts - self.same_text, texts=self.texts
        )


def compare_tokens(
    source: Checkpoint, export: Path, texts: Sequence[str], progress: Progress | None = None
) -> TokenReport:
    """Compare the tokenizer of a model folder with that of a file made from it.

    Args:
        source: the model folder.
        export: the GGUF or ONNX file, whose header has been checked.
        texts: what to try.
        progress: called with texts tried.
    """
    ours = open_tokenizer(source.path)
    report = TokenReport()
    with vocabulary(export) as vocab:
        count = Count(len(texts), progress)
        for text in texts:
            count.add(1)
            expected = ours.encode(text, add_special_tokens=False).ids
            found = vocab.encode(text, special=True)
            report.texts += 1
            report.tokens += len(expected)
            report.same_ids += found == expected
            spelt = b"".join(map(vocab.piece, expected)).decode("utf-8", "replace")
            report.same_text += spelt == ours.decode(expected, skip_special_tokens=True)
            if found != expected and len(report.differences) < _KEPT:
                report.differences.append(Difference(text, tuple(expected), tuple(found)))
    return report


@contextmanager
def vocabulary(path: Path) -> Iterator[ReaderVocab]:
    """The vocabulary of a GGUF or ONNX file alone."""
    if path.suffix == ".onnx":
        header = read_onnx(path)
        yield GraphVocab(header, header.n_vocab)
        return
    params = api().llama_model_default_params()
    params.vocab_only = True
    forget_errors()
    model = api().llama_model_load_from_file(os.fsencode(path), params)
    if not model:
        raise DamagedModelError("engine.model-refused", path=str(path), reason=reason())
    try:
        yield Vocab(model)
    finally:
        api().llama_model_free(model)
