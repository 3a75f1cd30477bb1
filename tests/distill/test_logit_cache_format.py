"""What is drawn from a teacher, and its way to disk and back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from distill.teaching.cache_format import (
    INDEX,
    Identity,
    Method,
    ShardHeader,
    Words,
    counted,
    decode,
    encode,
    padded,
    preamble,
    preamble_size,
    read_preamble,
)
from distill.teaching.sampling import draw, likeliest, uniforms

T, V = 40, 1000


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Threads wait for each other, at length where a core is busy; so little work wants one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def identity(method: Method = "independent", words: int = 12, **other: Any) -> Identity:
    known = {"data": "a text", "tokenizer": "0" * 64, "teacher": "1" * 64, "seed": 3}
    shape = {"vocabulary": V, "length": T, "method": method, "words": words}
    return Identity.model_validate(known | shape | other)


def draws(n: int = 12, vocabulary: int = V) -> np.ndarray:
    """Of a peaked distribution, so that words come more than once."""
    p = 1 / np.arange(1, vocabulary + 1) ** 1.5
    dice = np.random.default_rng(0)
    return np.sort(dice.choice(vocabulary, (T, n), p=p / p.sum()), axis=1)


def test_uniform_numbers_depend_on_seed_sequence_and_position_alone() -> None:
    whole = uniforms(1, 7, 10, 5, stratified=False)
    assert np.array_equal(uniforms(1, 7, 4, 5, stratified=False), whole[:4])
    for seed, sequence in ((2, 7), (1, 8)):
        assert not np.isin(uniforms(seed, sequence, 10, 5, stratified=False), whole).any()
    # As numpy makes numbers of [0, 1) from the same generator.
    first = np.random.Generator(np.random.Philox(key=np.array([1, 7], np.uint64))).random(5)
    np.testing.assert_array_equal(whole[0], np.sort(first))


def test_uniform_numbers_are_uniform_and_strata_have_one_each() -> None:
    flat = uniforms(0, 0, 4000, 5, stratified=False).ravel()
    counts = np.histogram(flat, 10, (0, 1))[0]
    assert ((counts - 2000) ** 2 / 2000).sum() < 27.9  # χ² of 9 degrees of freedom, p = 0.001
    strata = uniforms(0, 0, 100, 5, stratified=True)
    assert np.array_equal(np.floor(strata * 5).astype(int), np.tile(np.arange(5), (100, 1)))


def test_draws_fall_where_the_sums_of_probabilities_say() -> None:
    logits = torch.from_numpy(np.random.default_rng(1).normal(0, 3, (6, V))).float()
    numbers = torch.from_numpy(uniforms(0, 0, 6, 400, stratified=False))
    p = np.exp(logits.double().numpy())
    sums = (p / p.sum(1, keepdims=True)).cumsum(1)
    expected = np.stack(
        [np.searchsorted(sums[n], numbers[n].numpy(), side="right") for n in range(6)]
    )
    found = draw(logits, numbers).numpy()
    # Of float32, a number within 1e-7 of a border may fall on its other side.
    assert (found == expected).mean() > 0.999
    assert np.abs(found - expected).max() <= 1


def test_impossible_words_are_never_drawn() -> None:
    logits = torch.full((1, V), -1e9)
    logits[0, [5, 700]] = 0.0
    edges = torch.tensor([[0.0, 0.25, 0.5, 0.75, 1 - 2.0**-53]], dtype=torch.float64)
    assert draw(logits, edges).tolist() == [[5, 5, 700, 700, 700]]


@pytest.mark.parametrize("stratified", [False, True])
def test_shares_of_draws_are_the_distribution_on_average(stratified: bool) -> None:
    vocabulary, n, times = 12, 4, 6000
    logits = torch.from_numpy(np.random.default_rng(1).normal(0, 1.5, (1, vocabulary)))
    p = logits.softmax(-1)[0].numpy()
    numbers = torch.from_numpy(uniforms(5, 0, times, n, stratified=stratified))
    ids = draw(logits.expand(times, -1), numbers).numpy()
    shares = (ids[:, :, None] == np.arange(vocabulary)).mean(1)
    standard = np.sqrt(p * (1 - p) / n / times)
    assert (np.abs(shares.mean(0) - p) < 4.5 * standard).all()
    variance = shares.var(0) / (p * (1 - p) / n)
    if stratified:
        assert (variance < 1.1).all()
        assert variance[p.argmax()] < 0.5
    else:
        assert (np.abs(variance - 1) < 0.15).all()


def test_the_likeliest_words() -> None:
    logits = torch.log(torch.tensor([[0.1, 0.4, 0.05, 0.45]]))
    ids, shares = likeliest(logits, 2)
    assert ids.tolist() == [[1, 3]]
    torch.testing.assert_close(shares, torch.tensor([[0.4, 0.45]]))


@pytest.mark.parametrize("n", [1, 12, 256])
@pytest.mark.parametrize("vocabulary", [2, 200, V, 70_000])
def test_draws_come_back(n: int, vocabulary: int) -> None:
    given = draws(n, vocabulary)
    known = identity(words=n, vocabulary=vocabulary)
    found = decode(encode(counted(given), known), known)
    back = np.repeat(found.ids, found.weights).reshape(T, n)
    assert np.array_equal(back, given)
    ids, weights = padded([found, found], known)
    assert ids.shape == weights.shape == (2, T, found.lengths.max())
    for row, token in zip(given, range(T), strict=True):
        words, counts = np.unique(row, return_counts=True)
        assert np.array_equal(ids[1, token, : len(words)], words)
        np.testing.assert_array_equal(weights[1, token, : len(words)], (counts / n).astype("f4"))
        assert not weights[1, token, len(words) :].any()


def test_likeliest_words_come_back() -> None:
    ids, shares = likeliest(torch.randn(T, V, generator=torch.Generator().manual_seed(0)), 7)
    words = Words(
        ids.flatten().numpy(),
        shares.flatten().numpy().astype(np.float16),
        np.full(T, 7),
    )
    known = identity("top-k", 7)
    found = decode(encode(words, known), known)
    assert np.array_equal(found.ids, words.ids)
    assert np.array_equal(found.weights, words.weights)
    back, weights = padded([found], known)
    assert np.array_equal(back[0], ids.numpy())
    np.testing.assert_allclose(weights[0], shares.numpy(), rtol=1e-3)


def test_a_block_of_another_cache_or_damaged_is_no_block() -> None:
    known = identity()
    block = encode(counted(draws()), known)
    with pytest.raises(ValueError, match="weights"):
        decode(block, identity(words=11))
    with pytest.raises(ValueError, match="ids"):
        decode(block, identity(vocabulary=int(draws().max())))
    with pytest.raises(ValueError, match="words"):
        decode(block, identity(length=T * 13))
    wrong = set()
    for at in range(len(block)):  # no byte of it makes anything but a ValueError
        for damaged in (
            block[:at],
            block[:at] + bytes([block[at] ^ 0x41]) + block[at + 1 :],
            block[:at] + b"\xff" + block[at:],
        ):
            try:
                decode(damaged, known)
            except ValueError as error:
                wrong.add(str(error))
    assert {"words", "zstd", "size", "weights"} <= wrong


def test_counts_that_add_up_across_tokens_alone_are_no_block() -> None:
    known = identity(words=2, length=2)
    words = Words(np.array([1, 2, 3]), np.array([1, 2, 1]), np.array([2, 1]))
    with pytest.raises(ValueError, match="weights"):
        decode(encode(words, known), known)


def test_the_preamble_comes_back_and_no_byte_of_it_changes_unnoticed() -> None:
    header = ShardHeader(identity=identity(), first=10, count=2)
    index = np.array([(99, 5, 1, 2), (104, 6, 3, 4)], INDEX)
    raw = preamble(header, index)
    assert len(raw) == preamble_size(header)

    def read(content: bytes) -> tuple[ShardHeader, np.ndarray]:
        rest = [content]

        def take(size: int) -> bytes:
            some, rest[0] = rest[0][:size], rest[0][size:]
            return some

        return read_preamble(take)

    found, table = read(raw)
    assert found == header
    assert np.array_equal(table, index)
    for at in range(len(raw)):
        with pytest.raises(ValueError):  # noqa: PT011 - any of them
            read(raw[:at])
        with pytest.raises(ValueError):  # noqa: PT011
            read(raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :])
    with pytest.raises(ValueError, match="version 2"):
        read(raw[:8] + b"\x02" + raw[9:])
