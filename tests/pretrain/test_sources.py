"""What is told of the texts that a model learned from."""

from __future__ import annotations

from typing import Any

import pytest

from edge.manifest import DataSource, Manifest
from pretrain.sources import each_once, published

BOOK = DataSource(
    name="A book", url="https://example.org/book", licence="CC0-1.0", tokens=10, size=40,
    first_date="1800", last_date="1810",
)  # fmt: skip


def corpus(**recipe: Any) -> Manifest:
    return Manifest(
        kind="corpus", name="c", provenance="recorded", recipe=recipe,
        data=(BOOK, DataSource(name="news")),
    )  # fmt: skip


def test_a_source_is_found_by_the_name_that_documents_have_for_it() -> None:
    found = published(corpus(titles={"book": "A book", "gone": "Nothing"}))
    assert found["book"] == found["A book"] == BOOK
    assert "gone" not in found
    assert published(None) == {}


@pytest.mark.parametrize("titles", [None, 3, ["book"], {"book": ["A book"]}, {"book": {}}])
def test_a_corpus_that_says_it_otherwise_says_nothing(titles: Any) -> None:
    assert published(corpus(titles=titles)).keys() == {"A book", "news"}


def test_what_was_read_again_is_one_text_of_which_more_was_learned() -> None:
    dates = {"first_date": "1805", "last_date": "1820"}
    again = BOOK.model_copy(update={"licence": "MIT", "tokens": 5, "size": 30} | dates)
    (found,) = each_once([BOOK, again], max)
    assert found == DataSource(
        name="A book", url="https://example.org/book", licence="CC0-1.0 AND MIT", tokens=15,
        size=40, first_date="1800", last_date="1820",
    )  # fmt: skip
    (parts,) = each_once([BOOK, again], sum)
    assert parts.size == 70


def test_what_nobody_knows_stays_unknown() -> None:
    news = DataSource(name="news")
    assert each_once([news, news], sum) == (news,)
    (known,) = each_once([news, DataSource(name="news", tokens=3, licence="MIT")], max)
    assert (known.tokens, known.licence) == (3, None)


def test_the_same_name_at_another_address_is_another_source() -> None:
    other = BOOK.model_copy(update={"url": "https://example.net/book"})
    assert each_once([BOOK, other, BOOK], sum)[1] == other
    assert len(each_once([BOOK, other, BOOK], sum)) == 2
