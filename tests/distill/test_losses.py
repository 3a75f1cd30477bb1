"""Losses: their values against definitions, their gradients against torch's own."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from distill.losses.divergences import (
    Divergence,
    forward_kl,
    jensen_shannon,
    reverse_kl,
    sampled,
    skewed_forward_kl,
    skewed_reverse_kl,
)
from distill.losses.features import hidden_cosine, relation_kl
from distill.losses.fused import from_sample, from_teacher
from pretrain import fused
from pretrain.fused import PerToken, fused_cross_entropy, fused_mean, mixed, next_token

V = 11
DIVERGENCES: list[Divergence] = [
    partial(forward_kl, temperature=2.0),
    reverse_kl,
    partial(skewed_forward_kl, alpha=0.1),
    partial(skewed_reverse_kl, alpha=0.3, temperature=1.5),
    partial(jensen_shannon, beta=0.9),
]


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Threads wait for each other, at length where a core is busy; so little work wants one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def numbers(*shape: int, seed: int = 0, size: float = 2.0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(0, size, shape))


def softmax(logits: Tensor, temperature: float = 1.0) -> np.ndarray:
    """By the definition, in float64."""
    e = np.exp(logits.numpy() / temperature)
    return e / e.sum(-1, keepdims=True)


def kl(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    return (p * np.log(p / q)).sum(-1)


@pytest.mark.parametrize("t", [1.0, 3.0])
@pytest.mark.parametrize(
    ("ours", "definition"),
    [
        (forward_kl, kl),
        (reverse_kl, lambda p, q: kl(q, p)),
        (partial(skewed_forward_kl, alpha=0.1), lambda p, q: kl(p, 0.1 * p + 0.9 * q)),
        (partial(skewed_reverse_kl, alpha=0.2), lambda p, q: kl(q, 0.8 * p + 0.2 * q)),
        # trl 1.16, GKDTrainer.generalized_jsd_loss: beta weighs the teacher in the mixture,
        # and its divergence from the mixture.
        (
            partial(jensen_shannon, beta=0.3),
            lambda p, q: 0.3 * kl(p, 0.3 * p + 0.7 * q) + 0.7 * kl(q, 0.3 * p + 0.7 * q),
        ),
    ],
)
def test_divergences_are_their_definitions(
    ours: Callable[..., Tensor], definition: Callable[..., np.ndarray], t: float
) -> None:
    student, teacher = numbers(2, 3, V), numbers(2, 3, V, seed=1)
    expected = t**2 * definition(softmax(teacher, t), softmax(student, t))
    np.testing.assert_allclose(ours(student, teacher, temperature=t), expected, rtol=1e-12)


def test_forward_and_reverse_agree_with_torch() -> None:
    student, teacher = numbers(5, V), numbers(5, V, seed=1)
    q, p = student.log_softmax(-1), teacher.log_softmax(-1)
    expected = F.kl_div(q, p, reduction="batchmean", log_target=True)
    torch.testing.assert_close(forward_kl(student, teacher).mean(), expected)
    expected = F.kl_div(p, q, reduction="batchmean", log_target=True)
    torch.testing.assert_close(reverse_kl(student, teacher).mean(), expected)


def test_skew_bounds_what_it_skews_and_without_it_nothing_changes() -> None:
    far, near = torch.tensor([[1000.0, 0.0]]), torch.tensor([[0.0, 1000.0]])
    assert skewed_forward_kl(far, near, alpha=0.1).item() == pytest.approx(-math.log(0.1))
    assert skewed_reverse_kl(far, near, alpha=0.1).item() == pytest.approx(-math.log(0.1))
    student, teacher = numbers(5, V).requires_grad_(), numbers(5, V, seed=1)
    for skewed, plain in ((skewed_forward_kl, forward_kl), (skewed_reverse_kl, reverse_kl)):
        a, b = skewed(student, teacher, alpha=0.0).sum(), plain(student, teacher).sum()
        torch.testing.assert_close(a, b)
        ours, theirs = (torch.autograd.grad(each, student)[0] for each in (a, b))
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize(("beta", "limit"), [(1e-6, forward_kl), (1 - 1e-6, reverse_kl)])
def test_jensen_shannon_goes_to_both_divergences(beta: float, limit: Divergence) -> None:
    student, teacher = numbers(5, V, size=1), numbers(5, V, seed=1, size=1)
    scaled = jensen_shannon(student, teacher, beta=beta) / min(beta, 1 - beta)
    torch.testing.assert_close(scaled, limit(student, teacher), rtol=1e-4, atol=1e-4)


def test_a_sample_that_is_the_whole_distribution_gives_divergence_and_entropy() -> None:
    student, teacher = numbers(4, V), numbers(4, V, seed=1)
    p = teacher.softmax(-1)
    entropy = -(p * p.log()).sum(-1)
    ids = torch.arange(V).flip(0).expand(4, V)
    found = sampled(student, ids, p.flip(-1)) - entropy
    torch.testing.assert_close(found, forward_kl(student, teacher))
    padded = sampled(student, F.pad(ids, (0, 3)), F.pad(p.flip(-1), (0, 3)))
    torch.testing.assert_close(padded, found + entropy)


def dense_gradients(teacher: Tensor, student: Tensor) -> Tensor:
    student = student.clone().requires_grad_()
    return torch.autograd.grad(forward_kl(student, teacher).mean(), student)[0]


def sampled_gradients(ids: Tensor, weights: Tensor, student: Tensor) -> Tensor:
    student = student.clone().requires_grad_()
    return torch.autograd.grad(sampled(student, ids, weights).mean(), student)[0]


def test_sampled_gradients_are_unbiased_and_those_of_the_likeliest_words_are_not() -> None:
    student, teacher = numbers(1, V, size=1), numbers(1, V, seed=1, size=1)
    dense = dense_gradients(teacher, student)
    p = teacher.softmax(-1)
    draws, n = 4000, 5
    torch.manual_seed(1)
    ids = torch.multinomial(p.expand(draws, V), n, replacement=True)
    # Each row is a draw of its own for the same token; the mean divides by their number.
    found = draws * sampled_gradients(ids, torch.full_like(ids, 1 / n, dtype=p.dtype),
                                      student.expand(draws, V))  # fmt: skip
    error = (found.mean(0) - dense[0]).abs()
    standard = found.std(0) / draws**0.5
    assert (error < 4.5 * standard).all()
    # The variance of a count is n p (1 − p): of its gradient p (1 − p) / n.
    torch.testing.assert_close(found.var(0), p[0] * (1 - p[0]) / n, rtol=0.15, atol=0)

    top = p.topk(n)
    for weights in (top.values, top.values / top.values.sum(-1, keepdim=True)):
        biased = sampled_gradients(top.indices, weights, student)
        assert ((biased - dense)[0].abs() > 10 * standard).sum() >= V - n


def settled(ids: Tensor, weights: Tensor) -> Tensor:
    """The probabilities [1, V] that make the loss smallest."""
    student = torch.zeros(1, V, dtype=weights.dtype, requires_grad=True)
    optimizer = torch.optim.LBFGS([student], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> float:
        optimizer.zero_grad()
        loss = sampled(student, ids, weights).sum()
        loss.backward()
        return loss.item()

    optimizer.step(closure)
    return student.detach().softmax(-1)


def test_the_student_of_the_likeliest_words_ends_too_sure() -> None:
    p = numbers(1, V, size=1).softmax(-1)
    torch.testing.assert_close(settled(torch.arange(V)[None], p), p, atol=2e-3, rtol=0)
    top = p.topk(4)
    share = top.values / top.values.sum()
    expected = torch.zeros_like(p).scatter(-1, top.indices, share)
    found = settled(top.indices, top.values)
    torch.testing.assert_close(found, expected, atol=2e-3, rtol=0)
    assert found.max() > 1.1 * p.max()


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two tokens at a time, so that a few tokens make several blocks and a rest."""
    monkeypatch.setattr(fused, "_LOGITS", {"cpu": 2 * V})


class Case:
    def __init__(self, dtype: torch.dtype = torch.float64) -> None:
        self.hidden = numbers(1, 7, 4, size=1).to(dtype).requires_grad_()
        self.head = numbers(V, 4, seed=1).to(dtype).requires_grad_()
        self.teacher = numbers(1, 7, 6, seed=2).to(dtype)
        self.teacher_head = numbers(V, 6, seed=3, size=1).to(dtype)
        self.labels = torch.tensor([[0, 1, fused.IGNORED, 3, 4, 5, 6]])
        self.ids = torch.randint(V, (1, 7, 3), generator=torch.Generator().manual_seed(0))
        self.weights = torch.tensor([0.5, 0.5, 0.0], dtype=dtype).expand(1, 7, 3)

    def per_token(self) -> list[PerToken]:
        return [
            next_token(self.labels),
            from_sample(self.ids, self.weights),
            *(from_teacher(self.teacher, self.teacher_head, each) for each in DIVERGENCES),
        ]

    def fused_losses(self) -> list[Callable[[Tensor, Tensor], Tensor]]:
        return [partial(fused_mean, per_token=each) for each in self.per_token()]

    def plain_losses(self) -> list[Callable[[Tensor, Tensor], Tensor]]:
        def text(hidden: Tensor, head: Tensor) -> Tensor:
            logits, labels = (hidden @ head.T).flatten(0, 1), self.labels.flatten()
            return F.cross_entropy(logits, labels, reduction="none").mean()

        def teacher() -> Tensor:
            return self.teacher @ self.teacher_head.T

        return [
            text,
            lambda h, w: sampled(h @ w.T, self.ids, self.weights).mean(),
            *(
                lambda h, w, each=each: each(h @ w.T, teacher()).mean()  # type: ignore[misc]
                for each in DIVERGENCES
            ),
        ]


KINDS = range(2 + len(DIVERGENCES))


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("kind", KINDS)
def test_fused_losses_are_the_plain_ones(kind: int) -> None:
    case = Case()
    ours = case.fused_losses()[kind](case.hidden, case.head)
    plain = case.plain_losses()[kind](case.hidden, case.head)
    torch.testing.assert_close(ours, plain)
    inputs = (case.hidden, case.head)
    for found, expected in zip(
        torch.autograd.grad(3 * ours, inputs), torch.autograd.grad(3 * plain, inputs), strict=True
    ):
        torch.testing.assert_close(found, expected)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_agree_with_differences(kind: int) -> None:
    case = Case()
    assert torch.autograd.gradcheck(case.fused_losses()[kind], (case.hidden, case.head))


@pytest.mark.usefixtures("small_blocks")
def test_a_mixture_is_the_sum_of_shares_and_of_gradients() -> None:
    case = Case()
    both = mixed(
        from_teacher(case.teacher, case.teacher_head, DIVERGENCES[0]),
        next_token(case.labels),
        0.3,
    )
    ours = fused_mean(case.hidden, case.head, both)
    text, _, kl, *_ = (plain(case.hidden, case.head) for plain in case.plain_losses())
    plain = 0.7 * kl + 0.3 * text
    torch.testing.assert_close(ours, plain)
    inputs = (case.hidden, case.head)
    for found, expected in zip(
        torch.autograd.grad(ours, inputs), torch.autograd.grad(plain, inputs), strict=True
    ):
        torch.testing.assert_close(found, expected)


def test_a_frozen_matrix_gets_no_gradient_and_without_gradients_none_is_computed() -> None:
    case = Case()
    loss = fused_cross_entropy(case.hidden, case.head.detach(), case.labels)
    loss.backward()
    assert case.hidden.grad is not None
    assert case.head.grad is None
    with torch.no_grad():
        quiet = fused_cross_entropy(case.hidden, case.head, case.labels)
    assert not quiet.requires_grad
    torch.testing.assert_close(quiet, loss.detach())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_mixed_precision(dtype: torch.dtype, small_blocks: None) -> None:
    case = Case(torch.float32)
    plain = case.plain_losses()[2](case.hidden, case.head)
    expected = torch.autograd.grad(plain, (case.hidden, case.head))
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        loss = case.fused_losses()[2](case.hidden, case.head)
    found = torch.autograd.grad(loss, (case.hidden, case.head))
    room = 2e-2 if dtype == torch.bfloat16 else 1e-5
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, plain, rtol=room, atol=0)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours, theirs, rtol=0, atol=room * theirs.abs().max().item())


def test_the_matrix_of_many_blocks_loses_nothing_in_bfloat16(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One token a block: each adds 1/1,000 of what is there, which bfloat16 does not hold."""
    monkeypatch.setattr(fused, "_LOGITS", {"cpu": V})
    tokens = 1000
    hidden = torch.ones(tokens, 4, dtype=torch.bfloat16)
    head = torch.zeros(V, 4, dtype=torch.bfloat16, requires_grad=True)
    fused_cross_entropy(hidden, head, torch.zeros(tokens, dtype=torch.long)).backward()
    expected = torch.full((V, 4), 1 / V).bfloat16()
    expected[0] -= 1
    assert head.grad.dtype == torch.bfloat16
    torch.testing.assert_close(head.grad, expected, rtol=1e-2, atol=0)


def test_no_logits_of_all_tokens_are_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens, width, vocabulary = 64, 8, 1000
    monkeypatch.setattr(fused, "_LOGITS", {"cpu": 4 * vocabulary})
    largest = 0

    def spy(student: Tensor, teacher: Tensor) -> Tensor:
        nonlocal largest
        largest = max(largest, student.numel())
        return forward_kl(student, teacher)

    hidden = torch.randn(tokens, width, requires_grad=True)
    head = torch.randn(vocabulary, width, requires_grad=True)
    saved: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):  # type: ignore[func-returns-value]
        fused_mean(hidden, head, from_teacher(hidden.detach(), head.detach(), spy)).backward()
    assert largest == 4 * vocabulary
    assert max(t.numel() for t in saved) == vocabulary * width


def test_hidden_states_point_the_same_way() -> None:
    student, teacher = numbers(2, 3, 4), numbers(2, 3, 4, seed=1)
    a, b = student.numpy(), teacher.numpy()
    cosine = (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)
    assert hidden_cosine(student, teacher).item() == pytest.approx((1 - cosine).mean())
    assert hidden_cosine(teacher, 3 * teacher).item() == pytest.approx(0)


def test_relations_of_models_of_other_widths() -> None:
    queries, wide = numbers(2, 3, 4).requires_grad_(), numbers(2, 3, 8, seed=1)

    def relation(vectors: Tensor, n: int, head: int, t: int) -> np.ndarray:
        d = vectors.shape[-1] // 2
        part = vectors.detach()[n, :, head * d : (head + 1) * d]
        return softmax(part[t] @ part[: t + 1].T / d**0.5)

    expected = np.mean([
        kl(relation(wide, *at), relation(queries, *at))
        for at in itertools.product(range(2), range(2), range(3))
    ])  # fmt: skip
    loss = relation_kl(queries, wide, heads=2)
    assert loss.item() == pytest.approx(expected)
    assert torch.autograd.gradcheck(lambda q: relation_kl(q, wide, heads=2), queries)


def test_what_is_inside_is_compared_in_float32() -> None:
    """In bfloat16 a cosine is one of few numbers near 1, and a relation of few near 0."""
    near = [numbers(2, 3, 8), numbers(2, 3, 8) + numbers(2, 3, 8, seed=1, size=0.05)]
    rounded = [each.bfloat16() for each in near]
    for loss in (hidden_cosine, partial(relation_kl, heads=2)):
        with torch.autocast("cpu", torch.bfloat16):
            found = loss(*rounded)
        assert found.dtype == torch.float32
        expected = loss(*(each.double() for each in rounded)).float()
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("heads", [1, 2])
def test_no_relations_of_all_sequences_are_in_memory(heads: int) -> None:
    batch, length, width = 4, 32, 4
    queries = torch.randn(batch, length, width, requires_grad=True)
    saved: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):  # type: ignore[func-returns-value]
        loss = relation_kl(queries, torch.randn(batch, length, width), heads)
    assert max((t.numel() for t in saved), default=0) < length * length
    loss.backward()
    assert torch.isfinite(queries.grad).all()
