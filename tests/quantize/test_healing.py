"""Healing's parts: rounding that is trained through, where it begins, and its loss."""

from __future__ import annotations

import gguf
import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from quantize.ggml import blocks
from quantize.ggml.rewrite import pack_q4_0, pack_q8_0
from quantize.grid import GRIDS, Rounded
from quantize.healing.compensation import best_scales, compensate
from quantize.healing.divergence import divergence
from quantize.healing.recipe import Recipe
from quantize.healing.rounding import Rounding, as_levels


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def rounded(weight: Tensor, scales: Tensor, bits: int) -> Rounded:
    return Rounded(as_levels(weight, scales, GRIDS[bits]).numpy(), scales.half().numpy())


def scales_of(weight: Tensor, bits: int = 4) -> Tensor:
    parts = weight.split(32, dim=1)
    return torch.stack([best_scales(p, torch.ones_like(p), GRIDS[bits]) for p in parts], dim=1)


@pytest.mark.parametrize(("bits", "kind", "pack"), [(4, "Q4_0", pack_q4_0), (8, "Q8_0", pack_q8_0)])
def test_a_file_holds_what_was_trained(bits: int, kind: str, pack: object) -> None:
    weight = normal(48, 96)
    weight[3, 32:64] = 0
    scales = (scales_of(weight, bits) * 1.1).half().float()
    scales[5] *= -1
    made = rounded(weight, scales, bits)
    assert callable(pack)
    packed = pack(made.levels, made.scales).reshape(48, -1)
    read = gguf.quants.dequantize(packed, gguf.GGMLQuantizationType[kind])
    assert np.array_equal(read, made.numbers())
    trained = Rounding(scales, GRIDS[bits])(weight)
    assert np.array_equal(trained.detach().numpy(), made.numbers())


@pytest.mark.model
def test_scales_are_those_that_llama_cpp_finds() -> None:
    """With an importance matrix: `quantize_row_q4_0_impl`, which weighs by √(σ² + x²)."""
    weight = normal(64, 128)
    importance = normal(128, seed=1).square() + 0.1
    spread = weight.square().mean(dim=1, keepdim=True)
    parts = zip(weight.split(32, 1), importance.split(32), strict=True)
    scales = torch.stack(
        [best_scales(p, i * (spread + p.square()).sqrt(), GRIDS[4]) for p, i in parts], dim=1
    )
    ours = rounded(weight, scales, 4).numbers()
    theirs = blocks.round_trip(weight.numpy(), "Q4_0", importance.numpy())
    assert (ours == theirs).mean() > 0.99  # ties between scales, in another order of sums

    def error(found: np.ndarray) -> float:
        return float(((found - weight.numpy()) ** 2 * importance.numpy()).sum())

    assert error(ours) == pytest.approx(error(theirs), rel=5e-3)


def test_gradients_pass_but_where_a_weight_is_beyond_the_levels() -> None:
    """Against autograd over the definition, with rounding's residue held fast."""
    weight, wanted = normal(8, 64).requires_grad_(), normal(8, 64, seed=2)
    scales = scales_of(weight.detach()) * 0.8  # some go beyond
    (Rounding(scales, GRIDS[4])(weight) * wanted).sum().backward()

    other = weight.detach().clone().requires_grad_()
    ratio = other.reshape(8, 2, 32) / scales[..., None]
    kept = ratio.clamp(-8.5, 7.5)
    assert not torch.equal(kept, ratio)
    levels = kept + (kept.round().clamp(-8, 7) - kept).detach()
    ((levels * scales[..., None]).reshape(8, 64) * wanted).sum().backward()
    torch.testing.assert_close(weight.grad, other.grad)


def test_the_loss_is_the_divergence_and_its_gradient() -> None:
    student, teacher = normal(600, 16).requires_grad_(), normal(600, 16, seed=1)
    head = normal(50, 16, seed=2)
    found = divergence(student, teacher, head)
    (3 * found).backward()
    other = student.detach().clone().requires_grad_()
    logs = (F.log_softmax(other @ head.T, -1), F.log_softmax(teacher @ head.T, -1))
    expected = F.kl_div(*logs, reduction="batchmean", log_target=True)
    (3 * expected).backward()
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(student.grad, other.grad)
    assert float(divergence(teacher, teacher, head)) == pytest.approx(0, abs=1e-6)


def test_compensated_rounding_says_what_the_definition_says() -> None:
    """Optimal Brain Quantization, column by column, with the inverse updated after each."""
    weight, inputs = normal(6, 64), normal(300, 64, seed=1)
    inputs += normal(300, 8, seed=3) @ normal(8, 64, seed=2)  # which go together
    moments = inputs.T @ inputs
    found, scales = compensate(weight, moments, GRIDS[4])
    ours = rounded(found, scales, 4).numbers()

    left = weight.double().numpy().copy()
    damped = moments.double().numpy()
    damped = damped + 0.01 * np.diag(damped).mean() * np.eye(64)
    for at in range(64):
        rest = np.linalg.inv(damped[at:, at:])
        scale = scales[:, at // 32].double().numpy()
        levels = np.clip(np.rint(left[:, at] / scale), -8, 7)
        error = (left[:, at] - levels * scale) / rest[0, 0]
        left[:, at:] -= error[:, None] * rest[0]
        left[:, at] = levels * scale
    assert (
        np.abs(ours - left) < 1e-5
    ).mean() > 0.97  # single precision flips a few, and those after

    def error_of(rows: np.ndarray) -> float:
        return float(np.square((rows - weight.numpy()) @ inputs.numpy().T).sum())

    plain = rounded(weight, scales_of(weight), 4).numbers()
    assert error_of(ours) < 0.5 * error_of(plain)
    assert error_of(ours) == pytest.approx(error_of(left), rel=0.05)


def test_inputs_that_never_come_can_be_rounded() -> None:
    found, scales = compensate(normal(4, 32), torch.zeros(32, 32), GRIDS[4])
    assert found.isfinite().all()
    assert scales.isfinite().all()


def test_a_schedule_reads_every_piece_once_before_any_twice() -> None:
    recipe = Recipe(source="", texts="", bits=4, steps=9, batch=4, seed=3, learning_rate=2e-4)
    read = [piece for step in range(9) for piece in recipe.pieces(step, 12)]
    assert all(sorted(read[at : at + 12]) == list(range(12)) for at in (0, 12, 24))
    assert read[:12] != read[12:24]
    assert read[:12] != Recipe(
        source="", texts="", bits=4, steps=9, seed=4, learning_rate=2e-4
    ).pieces(0, 12)


def test_the_rate_rises_and_falls_to_nothing() -> None:
    recipe = Recipe(source="", texts="", bits=4, steps=100, learning_rate=2e-4)
    rates = [recipe.rate(step) for step in range(101)]
    assert max(rates) == pytest.approx(2e-4, rel=0.03)
    assert rates.index(max(rates)) == 9
    assert rates[0] < 3e-5
    assert rates[100] == 0
