"""The texts of a recipe, as tokens: what is read, in which order, and what is held out."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING

from edge.manifest import MANIFEST, DataSource
from edge.paths import cache_dir
from edge.progress import Progress
from edge.quantity import decimal_text
from edge.text import one_line
from edge.tokenizer_file import open_tokenizer, table_rows
from pretrain.documents import Split
from pretrain.errors import PretrainUsageError
from pretrain.order import Order
from pretrain.recipe import Recipe
from pretrain.result import manifest_of
from pretrain.sources import each_once
from pretrain.split import HELD_OUT, SHARE
from pretrain.tokens import Choice, TokenRow, tokenized

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["HeldOut", "Texts", "measured_on", "read_texts"]

_ENDS = ("<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>")
"""How tokenizers call the end of a text, where nobody says it."""


@dataclass(frozen=True)
class HeldOut:
    """Held-out text of one language."""

    language: str
    """ISO 639-1, or `code`."""
    row: TokenRow
    """Its tokens."""

    def sequences(self, length: int, count: int) -> list[int]:
        """Where as many sequences as that, or all, begin: spread evenly over the text."""
        windows = (len(self.row) - 1) // length
        chosen = min(count, windows)
        return [length * (n * windows // chosen) for n in range(chosen)]


def measured_on(texts: Sequence[HeldOut], tokens: int) -> str:
    """Identity of a measurement: figures of two may not stand in one table, or on one line.

    Args:
        texts: on which it is.
        tokens: how many it reads of each.
    """
    read = [(each.language, each.row.identity) for each in texts]
    return hashlib.sha256(repr((read, tokens)).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Texts:
    """The texts of a recipe, as tokens."""

    rows: tuple[TokenRow, ...]
    """Of each part of the mixture."""
    weights: tuple[float, ...]
    """Share of each in what is read."""
    held_out: tuple[HeldOut, ...]
    """By language, of the parts of the mixture or of what the recipe names."""
    vocabulary: int
    """Rows that the tokenizer's ids want: the largest, and one."""
    end: int
    """The token behind each document."""

    def order(self, recipe: Recipe) -> Order:
        """In which order they are read."""
        return Order(self.rows, self.weights, recipe.data.length, recipe.seed)

    def sources(self, order: Order, sequences: int) -> tuple[DataSource, ...]:
        """What has been read after so many sequences, repetitions counted."""
        read = (
            source.model_copy(update={"tokens": round((source.tokens or 0) * epochs)})
            for row, epochs in zip(self.rows, order.epochs(sequences), strict=True)
            for source in row.about.data
        )
        return each_once(read, sum)

    def languages(self) -> tuple[str, ...]:
        """ISO 639-1 codes of the natural languages among them, the strongest first."""
        size: dict[str, float] = {}
        for row, weight in zip(self.rows, self.weights, strict=True):
            for n, language in enumerate(row.about.languages):
                size[language] = size.get(language, 0.0) + weight / (n + 1)
        size.pop("code", None)
        return tuple(sorted(size, key=lambda each: -size[each]))


def read_texts(recipe: Recipe, progress: Progress) -> Texts:
    """Tokens of all texts of a recipe, from the cache where they are there.

    Raises:
        LucieError: a text or the tokenizer cannot be read, there is too little of one, or one is
            trained on where another holds it out.
    """
    _check_shares(recipe)
    tokenizer, separator = _tokenizer(recipe)
    cache, length = cache_dir() / "tokens", recipe.data.length

    def row(choice: Choice) -> TokenRow:
        return tokenized(choice, tokenizer, separator, cache, progress)

    rows = []
    for part in recipe.data.mixture:
        choice = Choice(Path(part.path), "train", part.languages, part.sources)
        rows.append(row(choice))
        if len(rows[-1]) <= length:
            raise PretrainUsageError(
                "tokens.short", path=part.path, tokens=len(rows[-1]), length=length
            )
    told = [part.weight for part in recipe.data.mixture]
    weights = tuple(len(row) if w is None else w for w, row in zip(told, rows, strict=True))
    held_out = (HeldOut(name, row(each)) for name, each in _held_out(recipe, rows).items())
    enough = tuple(each for each in held_out if _enough(recipe, each))
    return Texts(tuple(rows), weights, enough, table_rows(tokenizer), separator)


def _check_shares(recipe: Recipe) -> None:
    """That what one text holds out, no other that comes of the same sources trains on."""
    read = [path for part in recipe.data.mixture if (path := Path(part.path)).exists()]
    corpora = [path for each in recipe.data.evaluation if _is_bundle(path := Path(each))]
    shares: dict[float, Path] = {}
    for path in (*read, *corpora):
        manifest = manifest_of(path)
        share = manifest.recipe.get(SHARE) if manifest else HELD_OUT
        if isinstance(share, float):
            shares.setdefault(share, path)
    if len(shares) > 1:
        (share, path), (other_share, other) = list(shares.items())[:2]
        raise PretrainUsageError(
            "tokens.shares",
            path=str(path),
            share=f"{decimal_text(100 * share, 2)} %",
            other=str(other),
            other_share=f"{decimal_text(100 * other_share, 2)} %",
            plain=f"{HELD_OUT:.0%}",
        )


def _tokenizer(recipe: Recipe) -> tuple[Tokenizer, int]:
    """The tokenizer and the token behind each document."""
    path = recipe.tokenizer_path
    tokenizer = open_tokenizer(path)
    tokenizer.no_padding()
    tokenizer.no_truncation()
    tokenizer.encode_special_tokens = True  # nobody ends a document, or speaks, by spelling it
    asked = recipe.data.separator
    names = _ENDS if asked is None else (asked,)
    found = (tokenizer.token_to_id(name) for name in names)
    separator = next((token for token in found if token is not None), None)
    if separator is None:
        raise PretrainUsageError("tokens.separator", path=str(path), names=", ".join(names))
    return tokenizer, separator


def _held_out(recipe: Recipe, rows: list[TokenRow]) -> dict[str, Choice]:
    """What is measured on, by language, or by name where languages are not known or meet."""
    found: dict[str, Choice] = {}
    for path in map(Path, recipe.data.evaluation):
        _add(found, Choice(path, _split_of(path, recipe)), path.stem, path.parent.name)
    if recipe.data.evaluation:
        return found
    for part, row in zip(recipe.data.mixture, rows, strict=True):
        path = Path(part.path)
        for language in row.about.languages or (None,):
            only = (language,) if language else ()
            choice = Choice(path, "heldout", only, part.sources)
            _add(found, choice, language or path.name, path.name)
    return found


def _add(found: dict[str, Choice], choice: Choice, name: str, more: str) -> None:
    """A text under a name of its own; one that is there already is not read twice."""
    if choice not in found.values():
        name, more = one_line(name), one_line(more)
        names = chain((name, f"{name}, {more}"), (f"{name}, {more} {n}" for n in count(2)))
        found[next(each for each in names if each not in found)] = choice


def _enough(recipe: Recipe, held_out: HeldOut) -> bool:
    """Whether there is a sequence of it; of what somebody has named there must be one."""
    tokens, length = len(held_out.row), recipe.data.length
    short = tokens <= length or not held_out.row.about.size  # of text, not of separators
    if short and recipe.data.evaluation:
        raise PretrainUsageError(
            "tokens.short", path=held_out.language, tokens=tokens, length=length
        )
    return not short


def _split_of(path: Path, recipe: Recipe) -> Split | None:
    """What of a text is measured on: all, unless it is a corpus, or trained on as well."""
    trained_on = (Path(part.path) for part in recipe.data.mixture)
    plain = [each.resolve() for each in trained_on if not _is_bundle(each)]
    here = path.resolve()
    shared = any(here.is_relative_to(each) or each.is_relative_to(here) for each in plain)
    return "heldout" if shared or _is_bundle(path) else None


def _is_bundle(path: Path) -> bool:
    return (path / MANIFEST).is_file()
