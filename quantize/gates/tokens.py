"""The first gate of an export: its tokenizer gives the ids that the source's gives.

A model that reads other tokens than it learned still answers, and worse; nothing else
shows it. So thousands of texts go through both tokenizers, and back to text again; also
each token that was added to the source’s vocabulary, and what stands before a text.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING

from edge.checkpoint import Checkpoint
from edge.errors import DamagedModelError
from edge.gguf_header import check_vocabulary
from edge.llamacpp.native import api, forget_errors, reason
from edge.llamacpp.vocab import Vocab
from edge.onnx_header import read_onnx
from edge.onnxrt.vocab import Vocab as GraphVocab
from edge.progress import Count, Progress
from edge.tokenizer_file import open_tokenizer
from quantize.errors import QuantizeError
from quantize.gates.sample_texts import around
from quantize.measuring.aside import Aside
from quantize.measuring.text_reader import ReaderVocab

if TYPE_CHECKING:
    from tokenizers import Tokenizer

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
    source_first: tuple[int, ...] = ()
    """What the source puts before a text: BOS, or nothing."""
    export_first: tuple[int, ...] = ()
    differences: list[Difference] = field(default_factory=list)
    """The first few."""

    @property
    def passed(self) -> bool:
        """Whether they always agreed, on one text at least."""
        always = self.same_ids == self.same_text == self.texts > 0
        return always and self.source_first == self.export_first

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
        if self.source_first != self.export_first:
            raise QuantizeError(
                "gate.first",
                path=str(path),
                found=list(self.export_first),
                expected=list(self.source_first),
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
        export: what `vocabulary` takes.
        texts: what to try, beside the tokens that were added to the vocabulary.
        progress: called with texts tried.
    """
    ours = open_tokenizer(source.path)
    added = ours.get_added_tokens_decoder()
    texts = [*texts, *around(token.content for token in added.values())] if texts else []
    # An answer goes on; where a text begins, decoders drop the space that stands there.
    before = ours.encode("a", add_special_tokens=False).ids
    begun = ours.decode(before)
    report = TokenReport(source_first=_first(source, ours))
    with vocabulary(export) as vocab:
        report.export_first = tuple(vocab.encode("", special=False, bos=True))
        # llama.cpp makes control tokens, which no program shows, of some that the source shows.
        hidden = {id_ for id_, token in added.items() if not token.special and not vocab.piece(id_)}
        count = Count(len(texts), progress)
        for text in texts:
            count.add(1)
            expected = ours.encode(text, add_special_tokens=False).ids
            found = vocab.encode(text, special=True)
            report.texts += 1
            report.tokens += len(expected)
            report.same_ids += found == expected
            shown = [id_ for id_ in expected if id_ not in hidden]
            decoded = ours.decode([*before, *shown]).removeprefix(begun)
            report.same_text += _text(vocab, shown) == decoded
            if found != expected and len(report.differences) < _KEPT:
                report.differences.append(Difference(text, tuple(expected), tuple(found)))
    return report


def _text(vocab: ReaderVocab, ids: Sequence[int]) -> str:
    stream = vocab.stream()
    return "".join(map(stream.feed, ids)) + stream.flush()


def _first(source: Checkpoint, ours: Tokenizer) -> tuple[int, ...]:
    """What the source puts before a text: its settings say so, or its post-processor."""
    settings = source.document("tokenizer_config.json") or {}
    wanted = settings.get("add_bos_token")
    if wanted is None:
        encoded = ours.encode("a")
        pairs = zip(encoded.special_tokens_mask, encoded.ids, strict=True)
        return tuple(id_ for _, id_ in takewhile(lambda pair: pair[0], pairs))
    given = settings.get("bos_token")
    bos = given.get("content") if isinstance(given, dict) else given
    found = ours.token_to_id(bos) if isinstance(bos, str) else None
    return () if not wanted or found is None else (found,)


@contextmanager
def vocabulary(path: Path) -> Iterator[ReaderVocab]:
    """The vocabulary alone of a GGUF or ONNX file, or of a model folder.

    A folder’s own tokenizer is what an ONNX model made from it will have.
    """
    if path.is_dir() or path.suffix == ".onnx":
        header = read_onnx(path / "config.json" if path.is_dir() else path)
        yield GraphVocab(header, header.n_vocab)
        return
    check_vocabulary(path)  # native code trusts its files
    params = api().llama_model_default_params()
    params.vocab_only = True
    forget_errors()
    with Aside() as aside:
        model = aside(api().llama_model_load_from_file, os.fsencode(path), params)
    if not model:
        raise DamagedModelError("engine.model-refused", path=str(path), reason=reason())
    try:
        yield Vocab(model, path)
    finally:
        api().llama_model_free(model)
